//go:build kernel

package kernel

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	testbed "github.com/fairlead-lb/fairlead/test/bed"
)

var engineFlag = flag.String("engine", "", "the engine to test; empty = all that the kernel offers")

// TestMain runs the tests in namespaces of their own, which are the node. Nothing of them outlives it.
func TestMain(m *testing.M) { os.Exit(testbed.Main(testbed.Program{Run: m.Run})) }

// forEachEngine runs body once per engine, each time on an empty node.
func forEachEngine(t *testing.T, body func(t *testing.T, b *bed)) {
	t.Helper()
	for _, name := range tested() {
		t.Run(name, func(t *testing.T) { body(t, newBed(t, name)) })
	}
}

// tested returns the engines to test.
func tested() []string {
	if *engineFlag != "" {
		return []string{*engineFlag}
	}
	return engines()
}

// engines returns those that the kernel offers.
func engines() []string {
	if ipvs.Probe(context.Background()) == nil {
		return []string{engine.NFT, engine.IPVS}
	}
	return []string{engine.NFT}
}
