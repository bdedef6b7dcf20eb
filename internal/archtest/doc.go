// Package archtest holds the project's shape as a test: who may import whom, which packages are pure, how large a
// function, a file and an interface may become, and that every package says in doc.go what it is for. It has no code of
// its own besides the test; the rules are those of the design's sections 2 and 8.
package archtest
