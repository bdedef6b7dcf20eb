// Package bgptest is a router for tests that does with each connection what the test says, on the loopback interface or on a
// listener of the test's own. It fails the test when something else comes than was expected.
package bgptest
