package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/page"
	"github.com/fairlead-lb/fairlead/internal/survey"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	// speakersAtOnce is how many speakers are asked at a time: their answers are in memory together.
	speakersAtOnce = 4

	// maxRows is how many decisions, one of each speaker about each address, the page asks for. All of them are in memory for a
	// moment, half a kilobyte each, beside what allocates addresses: that must never die of somebody who looks.
	maxRows = 100_000
)

// newPage returns the web page.
func newPage(mgr manager.Manager, c config, log *slog.Logger) (http.Handler, error) {
	get := survey.Direct(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second}}, view.Port)
	return page.New(page.Options{Version: version, Log: log, Source: func(ctx context.Context, of lb.ServiceKey) (explain.Facts, error) {
		f, err := explain.Read(ctx, kube.NewSurveyReader(mgr, of), c.kube)
		if err != nil {
			return explain.Facts{}, fmt.Errorf("reading what the page shows: %w", err)
		}
		if rows := len(f.Speakers) * len(f.Kube.Services); rows > maxRows {
			for node, s := range f.Speakers {
				s.Error = fmt.Sprintf("%d speakers and %d Services are too many for the page; `kubectl fairlead status` asks them", len(f.Speakers), len(f.Kube.Services))
				f.Speakers[node] = s
			}
			return f, nil
		}
		paths := []string{view.DecisionsPath}
		if of != (lb.ServiceKey{}) {
			paths = append(paths, survey.DatapathOf(of))
		}
		survey.Ask(ctx, &f, get, speakersAtOnce, paths...)
		return f, nil
	}})
}
