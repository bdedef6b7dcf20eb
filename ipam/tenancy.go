package ipam

import "github.com/fairlead-lb/fairlead/lb"

// tenancy is who owns an address: one Service, or a party of several. The zero tenancy is nobody.
type tenancy struct {
	sole  lb.ServiceKey // the only owner, where there is no party
	party *party
}

// party is the Services that share an address: by one identity, and with no port in common. Every question about them
// costs the same however many they are.
type party struct {
	sharing    string
	members    map[lb.ServiceKey]struct{}
	namespaces map[string]int // members by namespace
	ports      map[portID]lb.ServiceKey
}

// portID tells the ports of an address apart.
type portID struct {
	protocol lb.Protocol
	port     uint16
}

func idOf(p lb.Port) portID { return portID{p.Protocol, p.Port} }

func (t tenancy) empty() bool { return t.party == nil && t.sole == lb.ServiceKey{} }

// has reports whether the Service is one of the owners.
func (t tenancy) has(key lb.ServiceKey) bool {
	if t.party == nil {
		return t.sole == key
	}
	_, ok := t.party.members[key]
	return ok
}

// others returns how many owners there are beside the Service.
func (t tenancy) others(key lb.ServiceKey) int {
	n := 0
	switch {
	case t.party != nil:
		n = len(t.party.members)
	case !t.empty():
		n = 1
	}
	if t.has(key) {
		n--
	}
	return n
}

// neighbours returns how many of the others are of the Service's namespace.
func (t tenancy) neighbours(key lb.ServiceKey) int {
	n := 0
	switch {
	case t.party != nil:
		n = t.party.namespaces[key.Namespace]
	case t.sole.Namespace == key.Namespace && !t.empty():
		n = 1
	}
	if t.has(key) {
		n--
	}
	return n
}

// first returns the lowest key of the others that match, for a message; it costs a pass over them.
func (t tenancy) first(key lb.ServiceKey, match func(lb.ServiceKey) bool) lb.ServiceKey {
	if t.party == nil {
		return t.sole
	}
	var best lb.ServiceKey
	for k := range t.party.members {
		if k != key && match(k) && (best == lb.ServiceKey{} || k.Compare(best) < 0) {
			best = k
		}
	}
	return best
}

// namespaces yields the namespaces of the owners, in no order.
func (t tenancy) namespaces(yield func(string) bool) {
	if t.party == nil {
		yield(t.sole.Namespace)
		return
	}
	for namespace := range t.party.namespaces {
		if !yield(namespace) {
			return
		}
	}
}

// join adds the Service to the owners of the address; l is its lease, and leaseOf finds that of the owner until now.
func (t tenancy) join(key lb.ServiceKey, l lease, leaseOf map[lb.ServiceKey]lease) tenancy {
	if t.empty() {
		return tenancy{sole: key}
	}
	if t.party == nil {
		p := &party{l.sharing, map[lb.ServiceKey]struct{}{}, map[string]int{}, map[portID]lb.ServiceKey{}}
		p.add(t.sole, leaseOf[t.sole].ports)
		t = tenancy{party: p}
	}
	t.party.add(key, l.ports)
	return t
}

// leave takes the Service from the owners.
func (t tenancy) leave(key lb.ServiceKey, ports []lb.Port) tenancy {
	if t.party == nil {
		return tenancy{}
	}
	t.party.remove(key, ports)
	if len(t.party.members) == 1 {
		for last := range t.party.members {
			return tenancy{sole: last}
		}
	}
	return t
}

func (p *party) add(key lb.ServiceKey, ports []lb.Port) {
	p.members[key] = struct{}{}
	p.namespaces[key.Namespace]++
	for _, port := range ports {
		p.ports[idOf(port)] = key
	}
}

func (p *party) remove(key lb.ServiceKey, ports []lb.Port) {
	delete(p.members, key)
	if p.namespaces[key.Namespace]--; p.namespaces[key.Namespace] == 0 {
		delete(p.namespaces, key.Namespace)
	}
	for _, port := range ports {
		delete(p.ports, idOf(port))
	}
}
