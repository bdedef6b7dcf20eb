package controller

import (
	"context"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// counted returns what the status of the pools is to say. Their history comes from there too, so that it outlives this
// process.
func counted(usage []ipam.Usage, pools []lb.Pool, now time.Time) []kube.PoolCounts {
	histories := map[string][]lb.Sample{}
	for _, p := range pools {
		histories[p.Name] = p.History
	}
	out := make([]kube.PoolCounts, len(usage))
	for i, u := range usage {
		sample := lb.Sample{At: now.UTC().Truncate(time.Second), IPv4: u.IPv4.Assigned, IPv6: u.IPv6.Assigned}
		history := ipam.Record(histories[u.Pool], sample)
		daysLeft := map[lb.Family]int{}
		for family, count := range map[lb.Family]ipam.Count{lb.IPv4: u.IPv4, lb.IPv6: u.IPv6} {
			if days, ok := ipam.Forecast(history, sample, family, count.Available); ok {
				daysLeft[family] = days
			}
		}
		out[i] = kube.PoolCounts{Pool: u.Pool, IPv4: kube.AddressCounts(u.IPv4), IPv6: kube.AddressCounts(u.IPv6), History: history, DaysLeft: daysLeft}
	}
	return out
}

// withoutHistory returns the pools as the allocator needs them: their use is no change of theirs.
func withoutHistory(pools []lb.Pool) []lb.Pool {
	out := make([]lb.Pool, len(pools))
	for i, p := range pools {
		p.History = nil
		out[i] = p
	}
	return out
}

// quotaUse returns what the namespaces with a quota own. That over all pools is looked up at one Service of each namespace.
func (c *Controller) quotaUse(ctx context.Context) ([]ipam.QuotaUse, error) {
	one := map[string]lb.ServiceKey{}
	for key := range c.ours {
		one[key.Namespace] = key
	}
	var out []ipam.QuotaUse
	for _, use := range c.alloc.QuotaUse() {
		if use.Pool == "" {
			w, err := c.cluster.Service(ctx, one[use.Namespace])
			if err != nil {
				return nil, err
			}
			use.Limit = w.Service.Quota.Max
		}
		if use.Limit > 0 {
			out = append(out, use)
		}
	}
	return out, nil
}
