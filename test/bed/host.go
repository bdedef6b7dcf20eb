package bed

import (
	"fmt"
	"io"
	"net"
)

// servicePort is the TCP port behind every address.
const servicePort = 80

// runHost is a node without its speaker: it holds the network namespace, and serves what the addresses stand for. A
// connection is told the node's name, and then gets back what it sends.
func runHost(name string) error {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", servicePort))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		go func() {
			defer c.Close()
			if _, err := fmt.Fprintln(c, name); err == nil {
				_, _ = io.Copy(c, c) // until the client has gone
			}
		}()
	}
}
