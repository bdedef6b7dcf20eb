package admission

import (
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// ForceDelete is the annotation that lets a pool be deleted although Services have addresses of it, if its value is "true".
const ForceDelete = "fairlead.dev/force-delete"

// Operation is what is done to the object; the words are those of an AdmissionReview.
type Operation string

// The operations that are looked at; others pass.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
)

// Pool is an IPAddressPool as it is written and as it is understood.
type Pool struct {
	Object *v1beta1.IPAddressPool
	Parsed lb.Pool
}

// Request is one change of one object: OldPool and NewPool, OldAdvertisement and NewAdvertisement, or one of the others. There is
// no old one when it is created, no new one when it is deleted.
type Request struct {
	Operation                          Operation
	OldPool, NewPool                   *Pool
	OldAdvertisement, NewAdvertisement *v1beta1.L2Advertisement

	Peer             Change[Peer]
	BGPAdvertisement Change[Advertisement]
	BFDProfile       Change[v1beta1.BFDProfile]
	Community        Change[v1beta1.Community]
}

// Subject names the object that is changed; "" for what is none of ours.
func (r Request) Subject() (kind, namespace, name string) {
	of := func(kind string, o metav1.Object) (string, string, string) {
		return kind, o.GetNamespace(), o.GetName()
	}
	switch {
	case r.NewPool != nil:
		return of("IPAddressPool", r.NewPool.Object)
	case r.OldPool != nil:
		return of("IPAddressPool", r.OldPool.Object)
	case r.NewAdvertisement != nil:
		return of("L2Advertisement", r.NewAdvertisement)
	case r.OldAdvertisement != nil:
		return of("L2Advertisement", r.OldAdvertisement)
	case r.Peer.any() != nil:
		return of("BGPPeer", r.Peer.any().Object)
	case r.BGPAdvertisement.any() != nil:
		return of("BGPAdvertisement", r.BGPAdvertisement.any().Object)
	case r.BFDProfile.any() != nil:
		return of("BFDProfile", r.BFDProfile.any())
	case r.Community.any() != nil:
		return of("Community", r.Community.any())
	}
	return "", "", ""
}

// Facts is what the cluster holds beside the object.
type Facts struct {
	Namespace   string // where Fairlead runs
	Terminating bool   // that namespace is being deleted
	Pools       []lb.Pool
	L2          []lb.L2Advertisement
	Services    []lb.Service // ours
	Reserved    []Reserved
	BGP         BGP
}

// Reserved is a range that the cluster uses for something else than Services of type LoadBalancer.
type Reserved struct {
	Range lb.Range
	What  string // completes "holds 192.0.2.11, ": "an address of Node node-1"
}

// Refusal is one reason to say no.
type Refusal struct {
	Reason lb.Reason
	Err    *field.Error
}

// Warning is something that whoever makes the change should know.
type Warning struct {
	Reason  lb.Reason
	Message string // names the field or the Service and the way out; no line breaks
}

// Decision is the answer to a Request.
type Decision struct {
	Refusals []Refusal // none = allowed
	Warnings []Warning
}

// Allowed reports whether the change may go through.
func (d Decision) Allowed() bool { return len(d.Refusals) == 0 }

func (d *Decision) refuse(reason lb.Reason, errs ...*field.Error) {
	for _, err := range errs {
		d.Refusals = append(d.Refusals, Refusal{reason, err})
	}
}

func (d *Decision) warn(reason lb.Reason, format string, args ...any) {
	d.Warnings = append(d.Warnings, Warning{reason, fmt.Sprintf(format, args...)})
}

// Decide answers r.
func Decide(r Request, f Facts) Decision {
	var d Decision
	switch {
	case r.NewPool != nil && r.Operation != Delete:
		writePool(&d, r.OldPool, *r.NewPool, f)
	case r.OldPool != nil && r.Operation == Delete:
		deletePool(&d, *r.OldPool, f)
	case r.NewAdvertisement != nil && r.Operation != Delete:
		writeAdvertisement(&d, r.OldAdvertisement, r.NewAdvertisement, f)
	default:
		decideBGP(&d, r, f)
	}
	return d
}

func writePool(d *Decision, old *Pool, now Pool, f Facts) {
	var before field.ErrorList
	if old != nil {
		if now.Object.DeletionTimestamp != nil || reflect.DeepEqual(old.Object.Spec, now.Object.Spec) {
			return
		}
		before = old.Object.Validate()
	}
	invalid(d, before, now.Object.Validate())
	if now.Object.Namespace != f.Namespace {
		misplaced(d, now.Object.Namespace, f.Namespace)
		return
	}
	if old == nil {
		collisions(d, lb.Pool{}, now, f)
		outgrown(d, lb.Pool{}, now.Parsed, f)
		return
	}
	collisions(d, old.Parsed, now, f)
	outgrown(d, old.Parsed, now.Parsed, f)
	if d.Allowed() {
		stranded(d, old.Parsed, now.Parsed, f)
	}
}

func writeAdvertisement(d *Decision, old, now *v1beta1.L2Advertisement, f Facts) {
	var before field.ErrorList
	if old != nil {
		if now.DeletionTimestamp != nil || reflect.DeepEqual(old.Spec, now.Spec) {
			return
		}
		before = old.Validate()
	}
	invalid(d, before, now.Validate())
	if now.Namespace != f.Namespace {
		misplaced(d, now.Namespace, f.Namespace)
		return
	}
	unknownPools(d, now.Spec.IPAddressPools, f)
}

func unknownPools(d *Decision, names []string, f Facts) {
	known := map[string]bool{}
	for _, p := range f.Pools {
		known[p.Name] = true
	}
	for i, name := range names {
		if !known[name] {
			d.warn(lb.UnknownPool, "%s is %q, but there is no such IPAddressPool in namespace %q: nothing of it is announced until there is; create it or correct the name",
				field.NewPath("spec", "ipAddressPools").Index(i), name, f.Namespace)
		}
	}
}

// invalid refuses what is newly wrong and warns of what was wrong before.
func invalid(d *Decision, before, now field.ErrorList) {
	known := map[string]int{}
	for _, err := range before {
		known[identity(err)]++
	}
	for _, err := range now {
		if id := identity(err); known[id] > 0 {
			known[id]--
			d.warn(lb.InvalidSpec, "wrong as before: %v", err)
		} else {
			d.refuse(lb.InvalidSpec, err)
		}
	}
}

// identity tells errors apart wherever in a list they are. A list that was too long and has become shorter has the same one.
func identity(err *field.Error) string {
	if err.Type == field.ErrorTypeTooMany {
		return err.Field
	}
	var b strings.Builder
	inside := false
	for _, r := range err.Error() {
		switch {
		case r == '[':
			inside = true
		case r == ']':
			inside = false
		case !inside || r < '0' || r > '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func misplaced(d *Decision, have, want string) {
	d.warn(lb.WrongNamespace, "metadata.namespace is %q, but Fairlead reads only %q: the object has no effect; create it there", have, want)
}
