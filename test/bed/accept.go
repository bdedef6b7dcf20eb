package bed

import "net"

// Accept has f handle every connection to a listener, each in a goroutine of its own and closed afterwards, until the listener is closed.
func Accept(l net.Listener, f func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			f(c)
		}()
	}
}
