package controller

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// write is a verdict on its way to the API server.
type write struct {
	verdict kube.Verdict
	version string       // of the Service on which it was decided
	leaves  []netip.Addr // addresses that the Service's status shows until then and no longer after
	since   time.Time    // when the Service was taken up
}

// writes holds what has been decided and may not be in the API server yet: for each Service the last decision. While an
// address is still in the status of the Service that gives it up, no other's status gets it. Services that give up an address
// themselves are the exception: two that swap would wait for each other. It is safe for concurrent use.
type writes struct {
	mu      sync.Mutex
	due     map[lb.ServiceKey]*write
	leaving map[netip.Addr]int             // how many due writes take the address out of a status
	blocked map[netip.Addr][]lb.ServiceKey // whose writes wait for that
}

func newWrites() *writes {
	return &writes{due: map[lb.ServiceKey]*write{}, leaving: map[netip.Addr]int{}, blocked: map[netip.Addr][]lb.ServiceKey{}}
}

// set replaces what is due for the Service; nil stands for nothing. It returns whose writes need wait no longer.
func (ws *writes) set(key lb.ServiceKey, w *write) []lb.ServiceKey {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w != nil {
		for _, a := range w.leaves {
			ws.leaving[a]++
		}
	}
	unblocked := ws.forget(key)
	if w != nil {
		ws.due[key] = w
	}
	return unblocked
}

// next returns what is due for the Service, nil if nothing is or it has to wait for another's write.
func (ws *writes) next(key lb.ServiceKey) *write {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.due[key]
	if w == nil {
		return nil
	}
	for _, a := range w.verdict.Addrs {
		if ws.leaving[a] > 0 && len(w.leaves) == 0 {
			ws.blocked[a] = append(ws.blocked[a], key)
			return nil
		}
	}
	return w
}

// done says that the API server has w, which may have been replaced since. It returns whose writes need wait no longer.
func (ws *writes) done(key lb.ServiceKey, w *write) []lb.ServiceKey {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.due[key] != w {
		return nil
	}
	return ws.forget(key)
}

func (ws *writes) forget(key lb.ServiceKey) []lb.ServiceKey {
	w := ws.due[key]
	if w == nil {
		return nil
	}
	delete(ws.due, key)
	var unblocked []lb.ServiceKey
	for _, a := range w.leaves {
		if ws.leaving[a]--; ws.leaving[a] == 0 {
			delete(ws.leaving, a)
			unblocked = append(unblocked, ws.blocked[a]...)
			delete(ws.blocked, a)
		}
	}
	return unblocked
}

// without returns the addresses of have that are not in keep.
func without(have, keep []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(have, func(a netip.Addr) bool { return slices.Contains(keep, a) })
}
