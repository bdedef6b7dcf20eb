// Package datapathtest is a node's kernel for tests: [Kernel] holds a datapath.State, applies datapath.Ops one by one, refuses
// any that a real kernel could not carry out in that order, and sends virtual packets through the result ([Kernel.Send]).
// What it holds is printed by State().String(), so a golden text is the whole kernel.
//
// Tests of datapath, its engines and internal/speaker use it; nothing else does.
package datapathtest
