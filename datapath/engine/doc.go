// Package engine puts the executors together into a datapath engine: ipvs with its nftables guard, or nft alone. It chooses by
// what the kernel can do, sets the sysctls that the choice needs, and decides nothing else. cmd/speaker and the kernel tests call it, so
// what is tested is what ships.
package engine
