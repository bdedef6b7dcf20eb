package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Step is one thing to do for the take-over.
type Step struct {
	Text    string `json:"text"`
	Command string `json:"command,omitempty"` // to copy, "" = none
}

// steps lists what to do. The order is what keeps addresses: nobody may give them to others in between.
func (m *migration) steps(in Input) []Step {
	from := m.from(in)
	out := []Step{{"Keep what there is, to be able to go back.",
		"kubectl get $(kubectl api-resources --api-group=metallb.io -o name | paste -sd,) -A -o yaml > metallb-backup.yaml"}}
	if len(m.secrets) > 0 {
		out = append(out, Step{"Make Fairlead's namespace, for the passwords of BGP peers.", "kubectl create namespace " + m.options.Namespace})
	}
	for _, s := range m.secrets {
		out = append(out, Step{fmt.Sprintf("Copy Secret %s/%s.", s.namespace, s.name),
			fmt.Sprintf(`kubectl create secret generic %s -n %s --type=kubernetes.io/basic-auth --from-literal=password="$(kubectl get secret %s -n %s -o jsonpath='{.data.password}' | base64 -d)"`,
				s.name, m.options.Namespace, s.name, s.namespace)})
	}
	out = append(out,
		Step{"Stop MetalLB's controller, so that only one gives out addresses. Its speakers go on announcing.",
			fmt.Sprintf("kubectl scale deployment -n %s -l app.kubernetes.io/name=metallb,app.kubernetes.io/component=controller --replicas=0 || kubectl scale deployment -n %[1]s controller --replicas=0", from)},
		Step{"Install Fairlead. Its controller adopts the addresses that Services have. With ipMode VIP kube-proxy forwards them as before, and Fairlead's datapath does too.",
			m.install(in.Services)},
		Step{"Give it the converted objects. Its speakers announce each address from now on, as MetalLB's do: whichever node is asked forwards.",
			"kubectl apply -f fairlead.yaml"},
		Step{"Wait until all is well, or nothing is wrong that was not before: every Service has kept its address, and a node of Fairlead's announces it.", "kubectl fairlead status"},
		Step{"Stop MetalLB's speakers. Every address is announced already.",
			fmt.Sprintf("kubectl delete daemonset -n %s -l app.kubernetes.io/name=metallb,app.kubernetes.io/component=speaker; kubectl delete daemonset -n %[1]s speaker --ignore-not-found", from)})
	if slices.ContainsFunc(m.result.Objects, func(o Object) bool { return kindOf(o) == "BGPPeer" }) {
		out = append(out, Step{"A router that takes only one session from a node has Fairlead's when MetalLB's has ended. See that all are established.", "kubectl fairlead bgp"})
	}
	return append(out,
		Step{"Have kube-proxy leave the addresses to Fairlead. In mode none, leave this out.",
			fmt.Sprintf("helm upgrade fairlead charts/fairlead --namespace %s --reuse-values --set datapath.ipMode=Proxy --wait", m.options.Namespace)},
		Step{"When all is well, remove MetalLB the way it was installed.", ""})
}

// from is the namespace of MetalLB: where most of its objects are.
func (m *migration) from(in Input) string {
	count := map[string]int{}
	best := ""
	for _, o := range in.Objects {
		if ns := o.GetNamespace(); o.Group() == Group && ns != "" {
			count[ns]++
			if count[ns] > count[best] || count[ns] == count[best] && ns < best {
				best = ns
			}
		}
	}
	return cmp.Or(best, "metallb-system")
}

// install is the command that installs Fairlead for the class that the Services have.
func (m *migration) install(services []Service) string {
	command := fmt.Sprintf("helm install fairlead charts/fairlead --namespace %s --create-namespace --set datapath.ipMode=VIP --wait", m.options.Namespace)
	classes := map[string][]lb.ServiceKey{}
	for _, s := range services {
		if s.Class != "" && s.Class != m.options.Class {
			classes[s.Class] = append(classes[s.Class], s.Key)
		}
	}
	var names []string
	for class := range classes {
		names = append(names, class)
	}
	slices.Sort(names)
	switch len(names) {
	case 0:
		return command
	case 1:
		return command + " --set loadBalancerClass=" + names[0]
	}
	return command + " --set loadBalancerClass=CLASS # one of " + strings.Join(names, ", ") + ": that which MetalLB had in --lb-class"
}
