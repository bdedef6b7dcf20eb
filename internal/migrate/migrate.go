package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/lb"
)

// Group is the API group of MetalLB.
const Group = "metallb.io"

// Verdict says what became of an object or a field.
type Verdict string

// The verdicts. Refused is the one that somebody must do something about.
const (
	Taken   Verdict = "taken"   // as it is, but for apiVersion and namespace
	Changed Verdict = "changed" // in a way that the message tells
	Refused Verdict = "refused" // and left out
	Ignored Verdict = "ignored" // it configures nothing that Fairlead needs
)

// Note says what became of one object, or of one field of it.
type Note struct {
	Object  string  `json:"object"` // "IPAddressPool metallb-system/default (pools.yaml, document 1)"
	Verdict Verdict `json:"verdict"`
	Field   string  `json:"field,omitempty"` // "spec.echoMode"; "" = the object
	Message string  `json:"message,omitempty"`
}

// String returns the note as one line.
func (n Note) String() string {
	out := n.Object + ": "
	if n.Field != "" {
		out += n.Field + " "
	}
	out += string(n.Verdict)
	if n.Message != "" {
		out += ": " + n.Message
	}
	return out
}

// Options says where the objects go.
type Options struct {
	Namespace string // where Fairlead runs
	Class     string // its loadBalancerClass, if the installation says another than the default
}

// Service is a Service of type LoadBalancer, whoever's it is.
type Service struct {
	lb.Service
	Class   string     // spec.loadBalancerClass, "" = none
	Refusal lb.Refusal // what in it cannot be read
}

// Input is what there is of MetalLB.
type Input struct {
	Objects  []manifest.Object
	Services []Service
}

// Object is one of ours.
type Object interface {
	runtime.Object
	metav1.Object
	Validate() field.ErrorList
}

// Result is what Migrate says. Everything in it is in a fixed order.
type Result struct {
	Objects []Object // those to apply
	Notes   []Note   // one or more for everything that went in
	Steps   []Step   // what to do, in this order
}

// Refusals returns the notes that somebody must do something about.
func (r Result) Refusals() []Note {
	return slices.DeleteFunc(slices.Clone(r.Notes), func(n Note) bool { return n.Verdict != Refused })
}

// Migrate converts what there is.
func Migrate(in Input, o Options) Result {
	m := &migration{options: o, taken: map[string]string{}}
	for _, object := range in.Objects {
		m.object(object)
	}
	m.services(in.Services)
	slices.SortStableFunc(m.result.Objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.GetName(), b.GetName()))
	})
	m.result.Steps = m.steps(in)
	return m.result
}

// migration is one run of Migrate.
type migration struct {
	options Options
	result  Result
	taken   map[string]string // our objects, and which of theirs each is from
	secrets []secret
	subject string // the title of the object that is at work
}

func (m *migration) note(v Verdict, at, format string, args ...any) {
	m.result.Notes = append(m.result.Notes, Note{m.subject, v, at, fmt.Sprintf(format, args...)})
}

// object converts one object of whatever kind.
func (m *migration) object(o manifest.Object) {
	m.subject = o.Title()
	if o.Source != "" {
		m.subject += " (" + o.Source + ")"
	}
	version := o.GroupVersionKind().Version
	switch k, known := kinds()[o.GetKind()]; {
	case o.Group() == Group && known && !slices.Contains(k.versions, version):
		m.note(Refused, "apiVersion", "%s is unknown; MetalLB has %s %s", o.GetAPIVersion(), o.GetKind(), strings.Join(k.versions, " and "))
	case o.Group() == Group && known && k.ignore != "":
		m.note(Ignored, "", "%s", k.ignore)
	case o.Group() == Group && known:
		k.convert(m, o)
	case o.Group() == Group:
		m.note(Refused, "kind", "%s is unknown; Fairlead has nothing in its place", o.GetKind())
	case o.Group() == "frrk8s."+Group:
		m.note(Refused, "kind", "%s configures FRR, which Fairlead does not use: its speakers have the BGP sessions; see BGPPeer", o.GetKind())
	case o.Is("", "ConfigMap"):
		m.configMap(o)
	case o.Is("", "Service"):
		// among Input.Services
	case o.Is("", "Secret"):
		m.note(Ignored, "", "Secrets that a BGPPeer names are copied by a step of their own; no other is needed")
	case o.Group() == v1beta1.Group:
		m.note(Ignored, "", "it is Fairlead's already")
	default:
		m.note(Ignored, "", "it is no configuration of MetalLB")
	}
}

// write adds an object of ours if it is valid and the first of its name, and reports whether it did.
func (m *migration) write(o Object) bool {
	kind := kindOf(o)
	if errs := o.Validate(); len(errs) > 0 {
		for _, err := range errs {
			m.note(Refused, err.Field, "%s", strings.TrimPrefix(err.Error(), err.Field+": "))
		}
		return false
	}
	id := manifest.Title(kind, "", o.GetName())
	if first, twice := m.taken[id]; twice {
		m.note(Refused, "metadata.name", "%s comes from %s already; rename one of them", id, first)
		return false
	}
	m.taken[id] = m.subject
	m.result.Objects = append(m.result.Objects, o)
	return true
}

// rank is the order in which our kinds are written: what is named by others comes first.
func rank(o Object) int {
	return slices.Index([]string{"IPAddressPool", "BFDProfile", "Community", "BGPPeer", "L2Advertisement", "BGPAdvertisement"}, kindOf(o))
}

func kindOf(o Object) string { return o.GetObjectKind().GroupVersionKind().Kind }
