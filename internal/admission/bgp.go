package admission

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// Change is what happens to one object: Old is nil when it is created, New when it is deleted.
type Change[T any] struct{ Old, New *T }

func (c Change[T]) any() *T {
	if c.New != nil {
		return c.New
	}
	return c.Old
}

// Peer is a BGPPeer as it is written and as it is understood.
type Peer struct {
	Object *v1beta1.BGPPeer
	Parsed lb.BGPPeer
}

// Advertisement is a BGPAdvertisement as it is written and as it is understood.
type Advertisement struct {
	Object *v1beta1.BGPAdvertisement
	Parsed lb.BGPAdvertisement
}

// BGP is what the cluster holds of BGP beside the object.
type BGP struct {
	Peers          []Peer
	Advertisements []Advertisement
	Profiles       []string // names of the BFDProfiles
	Communities    []v1beta1.Community
	Nodes          []lb.Node
}

// decideBGP answers for the objects of BGP.
func decideBGP(d *Decision, r Request, f Facts) {
	write := r.Operation != Delete
	switch {
	case r.Peer.New != nil && write:
		writePeer(d, r.Peer.Old, *r.Peer.New, f)
	case r.BGPAdvertisement.New != nil && write:
		writeBGPAdvertisement(d, r.BGPAdvertisement.Old, *r.BGPAdvertisement.New, f)
	case r.BFDProfile.New != nil && write:
		writeProfile(d, r.BFDProfile.Old, r.BFDProfile.New, f)
	case r.Community.New != nil && write:
		writeCommunity(d, r.Community.Old, r.Community.New, f)
	case r.BFDProfile.Old != nil && !write:
		deleteProfile(d, r.BFDProfile.Old, f)
	case r.Community.Old != nil && !write:
		dropAliases(d, r.Community.Old, nil, f)
	}
}

// object is what the kinds have in common.
type object interface {
	Validate() field.ErrorList
	GetNamespace() string
	GetDeletionTimestamp() *metav1.Time
}

// begin refuses what is newly wrong with the object itself, and reports whether what it says of others is to be looked at: it lives
// where it is read. Same says that the change leaves the spec alone; old is nil when the object is created.
func begin(d *Decision, f Facts, old, now object, same bool) bool {
	var known field.ErrorList
	if old != nil {
		if same || now.GetDeletionTimestamp() != nil {
			return false
		}
		known = old.Validate()
	}
	invalid(d, known, now.Validate())
	if now.GetNamespace() != f.Namespace {
		misplaced(d, now.GetNamespace(), f.Namespace)
		return false
	}
	return true
}

func writeProfile(d *Decision, old, now *v1beta1.BFDProfile, f Facts) {
	var before object
	if old != nil {
		before = old
	}
	if begin(d, f, before, now, old != nil && reflect.DeepEqual(old.Spec, now.Spec)) && now.Spec.EchoInterval != nil {
		d.warn(lb.InvalidSpec, "spec.echoInterval is %d and means nothing without echoMode, which there is not; delete it", *now.Spec.EchoInterval)
	}
}

func writePeer(d *Decision, old *Peer, now Peer, f Facts) {
	var before object
	if old != nil {
		before = old.Object
	}
	if !begin(d, f, before, now.Object, old != nil && reflect.DeepEqual(old.Object.Spec, now.Object.Spec)) {
		return
	}
	spec, path := &now.Object.Spec, field.NewPath("spec")
	at, value := path.Child("peerAddress"), spec.PeerAddress
	if spec.Interface != "" {
		at, value = path.Child("interface"), spec.Interface
	}
	for _, other := range f.BGP.Peers {
		node, conflict := meet(now.Parsed, other.Parsed, f.BGP.Nodes)
		if !conflict || other.Object.Name == now.Object.Name {
			continue
		}
		err := field.Invalid(at, value, fmt.Sprintf("BGPPeer %q has the same address in the same VRF on node %s, and a router has one session with each of our nodes: delete one of the two, or set their nodeSelectors apart",
			other.Object.Name, node))
		if old != nil {
			if _, was := meet(old.Parsed, other.Parsed, f.BGP.Nodes); was {
				d.warn(lb.PeerConflict, "wrong as before: %v", err)
				continue
			}
		}
		d.refuse(lb.PeerConflict, err)
	}
	if ref := spec.PasswordSecret; spec.SecretName() != "" && ref.Namespace != "" && ref.Namespace != f.Namespace {
		d.refuse(lb.PasswordUnavailable, field.Invalid(path.Child("passwordSecret", "namespace"), ref.Namespace,
			fmt.Sprintf("Fairlead reads Secrets of %q only; create it there and delete the field", f.Namespace)))
	}
	if spec.BFDProfile != "" && !slices.Contains(f.BGP.Profiles, spec.BFDProfile) {
		d.warn(lb.UnknownBFDProfile, "spec.bfdProfile is %q, but there is no such BFDProfile in namespace %q: the peer is not watched until there is; create it or correct the name", spec.BFDProfile, f.Namespace)
	}
	if nodes := selected(now.Parsed.NodeSelectors, f.BGP.Nodes); spec.RouterID != "" && len(nodes) > 1 {
		d.warn(lb.PeerConflict, "spec.routerID is %q on several nodes (%s); routers may take their paths for those of one: use a BGPPeer for each node, or delete it", spec.RouterID, strings.Join(nodes, ", "))
	}
}

// meet reports whether both peers are the same for one node, and names that.
func meet(a, b lb.BGPPeer, nodes []lb.Node) (string, bool) {
	if a.Addr != b.Addr || a.Interface != b.Interface || a.VRF != b.VRF || !a.Addr.IsValid() && a.Interface == "" {
		return "", false
	}
	for _, name := range selected(a.NodeSelectors, nodes) {
		if slices.Contains(selected(b.NodeSelectors, nodes), name) {
			return name, true
		}
	}
	return "", false
}

// selected names the nodes that match one of the alternatives.
func selected(selectors []lb.Selector, nodes []lb.Node) (out []string) {
	for _, n := range nodes {
		if lb.MatchesAny(selectors, n.Labels) {
			out = append(out, string(n.Name))
		}
	}
	slices.Sort(out)
	return out
}

// writeCommunity refuses a name that another object gives another value, and the end of one in use.
func writeCommunity(d *Decision, old, now *v1beta1.Community, f Facts) {
	var before object
	if old != nil {
		before = old
	}
	if !begin(d, f, before, now, old != nil && reflect.DeepEqual(old.Spec, now.Spec)) {
		return
	}
	if old == nil {
		old = &v1beta1.Community{}
	}
	for i, alias := range now.Spec.Communities {
		if slices.Contains(old.Spec.Communities, alias) {
			continue
		}
		for _, other := range f.BGP.Communities {
			for _, a := range other.Spec.Communities {
				if other.Name != now.Name && a.Name == alias.Name && a.Value != alias.Value {
					d.refuse(lb.InvalidSpec, field.Invalid(field.NewPath("spec", "communities").Index(i).Child("name"), alias.Name,
						fmt.Sprintf("Community %q has this name for %s; choose another, or give both the same value", other.Name, a.Value)))
				}
			}
		}
	}
	dropAliases(d, old, now, f)
}

// dropAliases refuses the end of names that a BGPAdvertisement uses and no other object has.
func dropAliases(d *Decision, old, now *v1beta1.Community, f Facts) {
	if old.Namespace != f.Namespace || old.DeletionTimestamp != nil || f.Terminating {
		return
	}
	has := func(c *v1beta1.Community, name string) bool {
		return c != nil && slices.ContainsFunc(c.Spec.Communities, func(a v1beta1.CommunityAlias) bool { return a.Name == name })
	}
	for _, alias := range old.Spec.Communities {
		kept := has(now, alias.Name) || slices.ContainsFunc(f.BGP.Communities, func(c v1beta1.Community) bool { return c.Name != old.Name && has(&c, alias.Name) })
		for _, ad := range f.BGP.Advertisements {
			if !kept && slices.Contains(ad.Object.Spec.Communities, alias.Name) {
				d.refuse(lb.InUse, field.Invalid(field.NewPath("spec", "communities"), alias.Name,
					fmt.Sprintf("BGPAdvertisement %q uses the name, and its paths would go without the community; take it out there first", ad.Object.Name)))
			}
		}
	}
}

func deleteProfile(d *Decision, old *v1beta1.BFDProfile, f Facts) {
	if old.Namespace != f.Namespace || old.DeletionTimestamp != nil || f.Terminating {
		return
	}
	for _, p := range f.BGP.Peers {
		if p.Object.Spec.BFDProfile == old.Name {
			d.refuse(lb.InUse, field.Invalid(field.NewPath("metadata", "name"), old.Name,
				fmt.Sprintf("BGPPeer %q names the profile, and would not be watched any more; take it out of its spec.bfdProfile first", p.Object.Name)))
		}
	}
}
