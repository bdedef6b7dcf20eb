package keyring

import (
	"fmt"
	"time"
)

// Rotation is how the Secret stands.
type Rotation struct {
	Data      map[string][]byte // the Secret's entries; not written to
	Requested bool              // somebody asks for a new key
	Since     time.Time         // when the last step was taken, or the Secret was made; zero = not known
}

// Policy says when to take a step.
type Policy struct {
	Every       time.Duration // age at which a key is replaced without being asked; 0 = never
	InstallWait time.Duration // how long the speakers have to pick up a new key before it is used; default 5 min
	RetireWait  time.Duration // how long the old one is still accepted; default 24 h, for nodes that are off the network
}

// The defaults of Policy, and the least that every speaker is sure to keep: each reads the Secret twice a minute.
const (
	DefaultInstallWait = 5 * time.Minute
	DefaultRetireWait  = 24 * time.Hour
	MinWait            = 40 * time.Second
)

// Validate fills in the defaults.
func (p Policy) Validate() (Policy, error) {
	if p.InstallWait == 0 {
		p.InstallWait = DefaultInstallWait
	}
	if p.RetireWait == 0 {
		p.RetireWait = DefaultRetireWait
	}
	switch {
	case p.InstallWait < MinWait || p.RetireWait < MinWait:
		return p, fmt.Errorf("waits of %s and %s between the steps of a key rotation; each must be %s or more, for speakers read the Secret every 30 s",
			p.InstallWait, p.RetireWait, MinWait)
	case p.Every < 0 || p.Every > 0 && p.Every < p.InstallWait+p.RetireWait:
		return p, fmt.Errorf("a new key every %s; one rotation takes %s", p.Every, p.InstallWait+p.RetireWait)
	}
	return p, nil
}

// Step is what a rotation does to the Secret.
type Step string

// The steps of a rotation, in their order.
const (
	Wait    Step = ""
	Install Step = "Install" // add the next key
	Promote Step = "Promote" // use it; the one before is still accepted
	Retire  Step = "Retire"  // drop that
	Date    Step = "Date"    // only note that the time runs from now on
)

// Next returns the step that is due and how the Secret stands after it; fresh is the key to install. An error says why there
// is no rotation and how to get one.
func (r Rotation) Next(p Policy, now time.Time, fresh Key) (Step, Rotation, error) {
	_, err := Parse(r.Data)
	if err != nil {
		return Wait, r, err
	}
	age := now.Sub(r.Since)
	installing, retiring := r.Data[EntryNext] != nil, r.Data[EntryPrevious] != nil
	switch {
	case r.Since.IsZero() || age < 0: // by another hand, or by a clock that was ahead
		return Date, r.at(now), nil
	case retiring && age >= p.RetireWait:
		return Retire, r.at(now).put(EntryPrevious, nil), nil
	case retiring:
	case installing && age >= p.InstallWait:
		return Promote, r.at(now).put(EntryPrevious, r.Data[EntryKey]).put(EntryKey, r.Data[EntryNext]).put(EntryNext, nil), nil
	case installing:
	case r.Requested, p.Every > 0 && age >= p.Every:
		next := r.at(now).put(EntryNext, fresh.Secret[:])
		next.Requested = false
		return Install, next, nil
	}
	return Wait, r, nil
}

func (r Rotation) at(now time.Time) Rotation {
	r.Since = now
	return r
}

// put returns r with another entry, or without it if v is nil.
func (r Rotation) put(entry string, v []byte) Rotation {
	data := make(map[string][]byte, len(r.Data)+1)
	for k, old := range r.Data {
		data[k] = old
	}
	if data[entry] = v; v == nil {
		delete(data, entry)
	}
	r.Data = data
	return r
}
