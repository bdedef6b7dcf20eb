package netlab

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// commands are what a script can say, with their arguments.
//
//	add-node n1 [key=value ...]   a machine and its speaker
//	expect n1 n2                  machines on which a speaker is to start
//	addresses 6                   Services with one address each
//	tick 5s                       let time pass
//	kill n2                       the power is cut
//	crash n2                      the speaker dies, the machine forwards on
//	start n2                      a new speaker process; after kill the machine has power again
//	drain n2                      the speaker shuts down in good order
//	pause n2 500ms                the machine sleeps
//	cut n2, plug n2               its cable
//	partition n1,n2 | n3          the switch falls into parts; the client stays with the first
//	heal                          and is one again
//	loss 5%                       of all packets
//	on-cordon leave               what speakers that start from now on are told
//	cordon n2, uncordon n2
//	label n2 key=value            empty value = without
//	exclude n2, include n2
//	advertise [failback=5s] [prefer=key=value]
//	owners                        check that nothing is wrong, print who answers for each address
//	check                         check that nothing is wrong
//	most 5                        the same, and that no node has more addresses than that
//	onward                        print where each machine hands what it does not know, and what others hand to it
//	outage < 300ms                the client's longest time without an answer since the last outage
var commands = map[string]func(*cluster, []string) ([]string, error){
	"add-node": func(c *cluster, args []string) ([]string, error) {
		return nil, c.addNode(args[0], pairs(args[1:])).start()
	},
	"expect": func(c *cluster, args []string) ([]string, error) {
		for _, name := range args {
			c.addNode(name, nil)
		}
		return nil, nil
	},
	"addresses": func(c *cluster, args []string) ([]string, error) {
		n, err := strconv.Atoi(args[0])
		c.setAddresses(n)
		return nil, err
	},
	"tick": func(_ *cluster, args []string) ([]string, error) {
		d, err := time.ParseDuration(args[0])
		time.Sleep(d)
		return nil, err
	},
	"kill":  withNode(func(n *node, _ []string) error { n.kill(true); return nil }),
	"crash": withNode(func(n *node, _ []string) error { n.kill(false); return nil }),
	"drain": withNode(func(n *node, _ []string) error { n.drain(); return nil }),
	"cut":   withNode(func(n *node, _ []string) error { n.plug(false); return nil }),
	"plug":  withNode(func(n *node, _ []string) error { n.plug(true); return nil }),
	"pause": withNode(func(n *node, args []string) error {
		d, err := time.ParseDuration(args[0])
		n.pause(d)
		return err
	}),
	"start": func(c *cluster, args []string) ([]string, error) {
		n, err := c.node(args[0])
		if err != nil {
			return nil, err
		}
		return nil, n.start()
	},
	"partition": func(c *cluster, args []string) ([]string, error) {
		sides := map[string]int{}
		for i, part := range strings.Split(strings.Join(args, ""), "|") {
			for name := range strings.SplitSeq(part, ",") {
				sides[name] = i
			}
		}
		c.lan.change(func() { c.lan.side = sides })
		return nil, nil
	},
	"heal": func(c *cluster, _ []string) ([]string, error) {
		c.lan.change(func() { c.lan.side = map[string]int{} })
		return nil, nil
	},
	"loss": func(c *cluster, args []string) ([]string, error) {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(args[0], "%"), 64)
		c.lan.change(func() { c.lan.loss = percent / 100 })
		return nil, err
	},
	"on-cordon": func(c *cluster, args []string) ([]string, error) { c.leave = args[0] == "leave"; return nil, nil },
	"cordon":    editNode(func(n *lb.Node, _ []string) { n.Cordoned = true }),
	"uncordon":  editNode(func(n *lb.Node, _ []string) { n.Cordoned = false }),
	"exclude":   editNode(func(n *lb.Node, _ []string) { n.Excluded = true }),
	"include":   editNode(func(n *lb.Node, _ []string) { n.Excluded = false }),
	"label": editNode(func(n *lb.Node, args []string) {
		n.Labels = maps.Clone(n.Labels)
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		maps.Copy(n.Labels, pairs(args))
	}),
	"advertise": advertise,
	"owners":    func(c *cluster, _ []string) ([]string, error) { return c.summary(), c.check() },
	"check":     func(c *cluster, _ []string) ([]string, error) { return nil, c.check() },
	"most":      most,
	"onward":    func(c *cluster, _ []string) ([]string, error) { return c.onward(), nil },
	"outage": func(c *cluster, args []string) ([]string, error) {
		limit, err := time.ParseDuration(args[1])
		if got := c.client.outage(); err == nil && got >= limit {
			err = fmt.Errorf("the client had no answer for %s, the limit is %s", got, limit)
		}
		return nil, err
	},
}

func most(c *cluster, args []string) ([]string, error) {
	limit, err := strconv.Atoi(args[0])
	if err == nil {
		err = c.check()
	}
	loads := map[string]int{}
	for _, owners := range c.owners() {
		for _, owner := range owners {
			loads[owner]++
		}
	}
	for name, load := range loads {
		if err == nil && load > limit {
			err = fmt.Errorf("%s has %d addresses, the limit is %d", name, load, limit)
		}
	}
	return nil, err
}

func advertise(c *cluster, args []string) ([]string, error) {
	ad := lb.L2Advertisement{Name: "all"}
	for _, arg := range args {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "failback":
			d, err := time.ParseDuration(value)
			if err != nil {
				return nil, err
			}
			ad.Failback = &d
		case "prefer":
			label, want, _ := strings.Cut(value, "=")
			ad.Preferred = append(ad.Preferred, lb.Preference{Weight: 10, Selector: lb.Selector{{Key: label, Op: lb.In, Values: []string{want}}}})
		default:
			return nil, fmt.Errorf("advertise knows failback and prefer, not %q", arg)
		}
	}
	c.edit(func(f *kube.Facts) { f.L2 = []lb.L2Advertisement{ad} })
	return nil, nil
}

func pairs(args []string) map[string]string {
	out := map[string]string{}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		out[key] = value
	}
	return out
}

func withNode(do func(*node, []string) error) func(*cluster, []string) ([]string, error) {
	return func(c *cluster, args []string) ([]string, error) {
		n, err := c.running(args[0])
		if err != nil {
			return nil, err
		}
		return nil, do(n, args[1:])
	}
}

func editNode(do func(*lb.Node, []string)) func(*cluster, []string) ([]string, error) {
	return func(c *cluster, args []string) ([]string, error) {
		if _, err := c.node(args[0]); err != nil {
			return nil, err
		}
		c.edit(func(f *kube.Facts) {
			n := f.Nodes[lb.NodeName(args[0])]
			do(&n, args[1:])
			f.Nodes[n.Name] = n
		})
		return nil, nil
	}
}

// arguments is how many each command needs at least, where it is not one.
var arguments = map[string]int{"heal": 0, "owners": 0, "check": 0, "onward": 0, "advertise": 0, "pause": 2, "label": 2, "outage": 2}

// Run plays a script and returns it with the answers that it got, each after "> ". Lines that begin with # are comments. It
// must be called in a testing/synctest bubble. The seed decides which packets a lossy switch loses.
func Run(script string, seed uint64) (string, error) {
	c := newCluster(seed)
	defer c.close()
	var out []string
	for i, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, ">") {
			continue
		}
		out = append(out, line)
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		command, known := commands[words[0]]
		need, special := arguments[words[0]]
		if !special {
			need = 1
		}
		if !known || len(words)-1 < need {
			return "", fmt.Errorf("line %d: %q is no command, or lacks arguments", i+1, line)
		}
		answers, err := command(c, words[1:])
		if err != nil {
			return "", fmt.Errorf("line %d: %s: %w\n%s", i+1, line, err, strings.Join(c.summary(), "\n"))
		}
		for _, a := range answers {
			out = append(out, "> "+a)
		}
	}
	return strings.Join(out, "\n") + "\n", nil
}
