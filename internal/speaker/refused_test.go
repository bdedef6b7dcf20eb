package speaker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestWhatIsLeftOutIsTold: a Service whose port another one has on the same address hears of it once, and again if it
// comes back.
func TestWhatIsLeftOutIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		told := func() int {
			count := 0
			for _, e := range n.events {
				if strings.HasPrefix(e, "default/xenon true ListenerTaken: ") {
					count++
				}
			}
			return count
		}
		rival := func(f *kube.Facts) {
			i := slices.IndexFunc(f.Services, func(s lb.Service) bool { return s.Key == web })
			s := f.Services[i]
			s.Key.Name = "xenon"
			f.Services = append(f.Services, s)
		}
		alone := func(f *kube.Facts) {
			f.Services = slices.DeleteFunc(f.Services, func(s lb.Service) bool { return s.Key.Name == "xenon" })
		}
		for i, edit := range []func(*kube.Facts){rival, alone, rival} {
			w.change(edit)
			pass(time.Minute)
			if want := []int{1, 1, 2}[i]; told() != want {
				t.Errorf("after change %d: told %d times, want %d: %q", i, told(), want, n.events)
			}
		}
	})
}
