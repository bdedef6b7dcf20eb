//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// Ten times as many are in `make bench`.
func TestManyServicesAreWrittenOnceEach(t *testing.T) {
	const n = 1000
	writes := func() int { return requests(t, `resource="services"`, `subresource="status"`, `verb="PATCH"`) }
	before := writes()
	f := flood(t, n)
	f.end(t, 60*time.Second)
	if got := writes() - before; got != n {
		t.Errorf("%d requests wrote the status of %d Services, refused ones included", got, n)
	}
	time.Sleep(3 * time.Second)
	if got := writes() - before; got != n {
		t.Errorf("%d requests after everybody had an address", got-n)
	}
}
