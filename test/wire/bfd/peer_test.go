//go:build wire

package bfd

func runPeer() error { return nil }
