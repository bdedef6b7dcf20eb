package engine

import (
	"context"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
)

// Modules knows what the kernel has for direct server return in the network namespace of the calling thread.
type Modules struct{}

// Missing returns the modules that engine ipvs lacks for it, after the kernel has tried to load them.
func (Modules) Missing(ctx context.Context) ([]string, error) {
	missing, err := link.MissingModules()
	if err != nil {
		return missing, err
	}
	has, err := ipvs.HasScheduler(ctx, datapath.Maglev)
	if err == nil && !has {
		missing = append(missing, "ip_vs_"+datapath.Maglev)
	}
	return missing, err
}
