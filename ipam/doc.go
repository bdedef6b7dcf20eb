// Package ipam decides which Service gets which address. [Allocator] is the whole of it: a data structure without clock,
// IO, log or lock, driven by one goroutine of internal/controller.
//
// What it promises:
//
//   - An address has one owner, or several that share it by the rules of allow-shared-ip: same sharing key, no port in
//     common, and either externalTrafficPolicy Cluster for all or Local with one and the same pod selector; of different
//     namespaces only where the pool allows that.
//   - An address in use stays. Edits and deletions of pools never move a Service; it keeps what it has and is told so
//     ([lb.AddressOutsidePools]). Only the Service's own edits move it: another address or pool requested, a family given
//     up, a sharing rule broken, a release. Where a wish cannot be fulfilled the Service keeps what it has.
//   - A Service has one address of each family, or as many as it asks for, all of one pool. More are added behind those that
//     it has, fewer takes the last ones; where there are fewer than it wants, it gets what there is.
//   - A namespace gets no more addresses of a pool than its quota there, and no more of all pools together than its quota
//     over all. A quota takes nothing away.
//   - The same history gives the same result: pools are tried in the order of priority (1 first, 0 last), then those made
//     for certain Services before those for all, then name; in a pool the entries in their order, the lowest address first.
//   - A freed address is the last of its pool to be given out again until it has rested, as long as the pool says. An
//     edit of the pools does not wake it, but one that has rested already does not rest again.
//   - What is adopted in whatever order, beside pools in whatever order, gives the same answers afterwards.
//   - The cost of an allocation depends on the number of pools and ranges, not on how many addresses are in use, nor on how
//     many Services share by one key; memory grows with the addresses in use, not with the size of the pools.
package ipam
