package kube

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// deliveryLimit is how long a request may be on the way from this host's kernel to the API server: what is not acknowledged
// by then never arrives, because the kernel gives up the connection.
const deliveryLimit = 1500 * time.Millisecond

// bounded returns cfg with a bound on the life of a request, beside the client's patience: the API server is told how long that
// is and gives up as well, and what the network holds back is not delivered later than deliveryLimit.
func bounded(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: limitDelivery} // the times are client-go's
	cfg.Dial = dialer.DialContext
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return patience{next} })
	return cfg
}

// limitDelivery sets the time after which a connection with unacknowledged data ends, RFC 5482.
func limitDelivery(_, _ string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deliveryLimit.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}

// patience tells the API server until when the answer to a request is awaited, if that is limited. The server counts from
// when it received the request.
type patience struct{ next http.RoundTripper }

func (p patience) RoundTrip(r *http.Request) (*http.Response, error) {
	until, ok := r.Context().Deadline()
	query := r.URL.Query()
	if !ok || query.Has("timeout") {
		return p.next.RoundTrip(r)
	}
	left := time.Until(until)
	if left <= 0 { // to the API server 0 stands for no limit
		return nil, context.DeadlineExceeded
	}
	query.Set("timeout", left.String())
	r = r.Clone(r.Context())
	r.URL.RawQuery = query.Encode()
	return p.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport.
func (p patience) WrappedRoundTripper() http.RoundTripper { return p.next }
