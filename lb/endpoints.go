package lb

import (
	"iter"
	"maps"
	"slices"
)

// Endpoints holds the endpoints of each Service that has some, in parts that values share: one that differs from another in a few Services
// costs as much as those, however many there are. It is never written to; nil is empty, and ready for use. Builders sort the lists by
// [Endpoint.Compare].
type Endpoints []*map[ServiceKey][]Endpoint

// endpointParts is how many parts an Endpoints has that is not empty: with 10,000 Services each has 40.
const endpointParts = 256

// EndpointsOf returns the lists as Endpoints. They must not be written to any more.
func EndpointsOf(lists map[ServiceKey][]Endpoint) Endpoints { return Endpoints(nil).With(lists) }

// Of returns the endpoints of a Service, sorted, nil if it has none.
func (e Endpoints) Of(key ServiceKey) []Endpoint { return e.part(partOf(key))[key] }

// With returns e with other lists for some Services; an empty one means that the Service has no endpoints. They must not be written to any
// more.
func (e Endpoints) With(lists map[ServiceKey][]Endpoint) Endpoints {
	if len(lists) == 0 {
		return e
	}
	out := slices.Clone(e)
	if out == nil {
		out = make(Endpoints, endpointParts)
	}
	mine := map[int]bool{} // parts that nobody else has
	for key, list := range lists {
		i := partOf(key)
		if !mine[i] {
			part := maps.Clone(e.part(i))
			if part == nil {
				part = map[ServiceKey][]Endpoint{}
			}
			out[i], mine[i] = &part, true
		}
		if len(list) > 0 {
			(*out[i])[key] = list
		} else {
			delete(*out[i], key)
		}
	}
	return out
}

// Set makes e one with another list for a Service. Whoever has e's value from before does not notice.
func (e *Endpoints) Set(key ServiceKey, list []Endpoint) {
	*e = e.With(map[ServiceKey][]Endpoint{key: list})
}

// All goes through the Services that have endpoints, in no order.
func (e Endpoints) All() iter.Seq2[ServiceKey, []Endpoint] {
	return func(yield func(ServiceKey, []Endpoint) bool) {
		for i := range e {
			for key, list := range e.part(i) {
				if !yield(key, list) {
					return
				}
			}
		}
	}
}

// Since goes through the Services whose lists are not the same memory as in before, in no order.
func (e Endpoints) Since(before Endpoints) iter.Seq[ServiceKey] {
	return func(yield func(ServiceKey) bool) {
		for i := range endpointParts {
			is, was := e.part(i), before.part(i)
			if len(e) > 0 && len(before) > 0 && e[i] == before[i] {
				continue
			}
			for key, list := range is {
				if old := was[key]; (len(old) != len(list) || &old[0] != &list[0]) && !yield(key) {
					return
				}
			}
			for key := range was {
				if _, stays := is[key]; !stays && !yield(key) {
					return
				}
			}
		}
	}
}

// Equal reports whether both hold the same.
func (e Endpoints) Equal(o Endpoints) bool {
	for key := range e.Since(o) {
		if !slices.Equal(e.Of(key), o.Of(key)) {
			return false
		}
	}
	return true
}

func (e Endpoints) part(i int) map[ServiceKey][]Endpoint {
	if len(e) == 0 || e[i] == nil {
		return nil
	}
	return *e[i]
}

// partOf tells the part of a Service by its FNV-1a hash.
func partOf(key ServiceKey) int {
	h := uint32(2166136261)
	for _, s := range []string{key.Namespace, key.Name} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return int(h % endpointParts)
}
