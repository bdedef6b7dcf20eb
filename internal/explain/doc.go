// Package explain says why traffic reaches a Service or does not. [Facts] is what the API server holds and what each speaker
// says of itself; [Facts.Service] and [Facts.Address] turn it into a chain: allocation, election, announcement, wire, datapath,
// endpoints, health. Every step is yes, no or unknown, with its Reason, the evidence, and what to do; the first no is the cause.
// [Facts.Overview] says what is wrong with the installation, [Facts.Drain] what would happen without a node.
//
// It decides nothing: whether an address is announced is what the speakers have decided, and a drain is announce.Plan on other
// facts. It is pure; cmd/kubectl-fairlead asks the API server and the speakers, through the API server.
package explain
