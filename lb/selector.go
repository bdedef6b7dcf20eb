package lb

import "slices"

// Operator is how a [Requirement] compares; the words are those of Kubernetes label selectors.
type Operator string

// The four operators of a Kubernetes label selector.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// Requirement is one condition on one label.
type Requirement struct {
	Key    string
	Op     Operator
	Values []string
}

// Selector matches label sets that fulfil all its requirements; an empty one matches everything, as in Kubernetes.
// matchLabels arrives as In with one value.
type Selector []Requirement

// Matches reports whether labels fulfil every requirement. NotIn is fulfilled by an absent label, as in Kubernetes.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s {
		v, has := labels[r.Key]
		ok := false
		switch r.Op {
		case In:
			ok = has && slices.Contains(r.Values, v)
		case NotIn:
			ok = !has || !slices.Contains(r.Values, v)
		case Exists:
			ok = has
		case DoesNotExist:
			ok = !has
		}
		if !ok {
			return false
		}
	}
	return true
}

// MatchesAny reports whether one of the alternatives matches; no alternatives at all means no restriction, hence true.
func MatchesAny(alternatives []Selector, labels map[string]string) bool {
	return len(alternatives) == 0 ||
		slices.ContainsFunc(alternatives, func(s Selector) bool { return s.Matches(labels) })
}
