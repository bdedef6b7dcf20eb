package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
)

// proxy carries connections from the machine's loopback to the API server, byte by
// byte, so that TLS is between the client and the API server.
func (s *supervisor) proxy(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.HostAPI.Close() })
	defer stop()
	for {
		conn, err := s.HostAPI.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting a connection to the API server: %w", err)
		}
		s.group.Go(func() error {
			s.carry(ctx, conn)
			return nil
		})
	}
}

// carry ends when both directions have ended.
func (s *supervisor) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, err := s.dial(ctx, "tcp", apiServerAddr().String())
	if err != nil {
		s.Log.Debug("API server not reached", "err", err)
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = server.Close()
	})
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(server, client)
	}()
	pump(client, server)
	<-done
}

// pump copies until from ends, and passes that end on.
func pump(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = to.Close() // a reset is passed on as one
		_ = from.Close()
		return
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
