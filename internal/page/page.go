package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/lb"
)

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS string

const (
	fresh    = 3 * time.Second  // how long facts count as those of now: whoever reloads, or a hundred who do, costs no more
	patience = 20 * time.Second // how long facts are waited for, those that others are waiting for included
	kept     = 16               // Services whose facts are remembered

	maxAddresses = 500 // rows of the table; those beyond are to be searched for
	maxChanges   = 50
	maxProblems  = 100
	maxSharers   = 8 // Services of one address that are explained on one page
	maxQuery     = 300
)

// Source returns the facts as of now, with the endpoints of the Service of and what each node's kernel holds for it; with the zero key
// of none. It must be safe for concurrent use.
type Source func(ctx context.Context, of lb.ServiceKey) (explain.Facts, error)

// Options configures the page.
type Options struct {
	Source  Source
	Version string // of this program
	Log     *slog.Logger
}

// Page serves the page. Create it with [New].
type Page struct {
	o      Options
	facts  *memory
	pages  *template.Template
	policy string // the Content-Security-Policy
}

// New returns the handler. It serves / and /explain?q=, where q is NAMESPACE/NAME or an address.
func New(o Options) (*Page, error) {
	if o.Source == nil || o.Log == nil {
		return nil, errors.New("page: Source and Log must not be nil")
	}
	pages, err := template.New("page").Funcs(functions()).Parse(pageHTML)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(styleCSS))
	p := &Page{o: o, facts: newMemory(o.Source), pages: pages}
	p.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return p, nil
}

// ServeHTTP answers GET and HEAD.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page only shows: GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/":
		p.overview(w, r)
	case "/explain":
		p.explain(w, r)
	default:
		http.Error(w, "there is nothing here: see / and /explain?q=NAMESPACE/NAME", http.StatusNotFound)
	}
}

// frame is what every page has.
type frame struct {
	Title   string
	Version string
	Now     time.Time // when the facts were gathered
	Query   string
	Every   int // seconds after which the page loads itself again; 0 = never
	Style   template.CSS
}

func (p *Page) frame(r *http.Request, title string, at time.Time) frame {
	f := frame{Title: title, Version: p.o.Version, Now: at.UTC(), Style: template.CSS(styleCSS)} // our own text
	if r.URL.Query().Get("every") == "10" {
		f.Every = 10
	}
	return f
}

func (p *Page) overview(w http.ResponseWriter, r *http.Request) {
	f, at, err := p.facts.get(r.Context(), lb.ServiceKey{})
	if err != nil {
		p.fail(w, err)
		return
	}
	p.render(w, "overview", overviewOf(f, p.frame(r, "Fairlead", at), r.URL.Query().Get("find")))
}

// explanation is the page of a Service or an address.
type explanation struct {
	frame
	Chains []explain.Chain
	More   int // Services of the address that are left out
}

func (p *Page) explain(w http.ResponseWriter, r *http.Request) {
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	query = query[:min(len(query), maxQuery)]
	if query == "" {
		w.Header().Set("Location", "./") // as it is: http.Redirect would make it absolute, and wrong below a proxy's path
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	f, at, err := p.facts.get(r.Context(), lb.ServiceKey{})
	if err != nil {
		p.fail(w, err)
		return
	}
	out := explanation{}
	addr, noAddr := netip.ParseAddr(query)
	keys := servicesOf(f, query)
	if noAddr == nil {
		addr = addr.Unmap().WithZone("")
		keys = holders(f, addr)
		if len(keys) == 0 {
			out.Chains = f.Address(addr)
		}
	}
	out.More = max(0, len(keys)-maxSharers)
	for _, key := range keys[:min(len(keys), maxSharers)] {
		of := f
		if _, exists := f.Services[key]; exists { // of what is only a word in a request nothing more is asked
			if of, at, err = p.facts.get(r.Context(), key); err != nil {
				p.fail(w, err)
				return
			}
		}
		for _, c := range of.Service(key) {
			if noAddr != nil || c.Address == addr {
				out.Chains = append(out.Chains, c)
			}
		}
	}
	out.frame = p.frame(r, query+" - Fairlead", at)
	out.Query = query
	p.render(w, "explain", out)
}

// servicesOf returns the Services that the query means: one, if it is NAMESPACE/NAME, else all of that name, else one that there is not.
func servicesOf(f *explain.Facts, query string) []lb.ServiceKey {
	if namespace, name, ok := strings.Cut(query, "/"); ok {
		return []lb.ServiceKey{{Namespace: namespace, Name: name}}
	}
	var out []lb.ServiceKey
	for _, s := range f.Kube.Services {
		if s.Key.Name == query {
			out = append(out, s.Key)
		}
	}
	if len(out) == 0 {
		out = append(out, lb.ServiceKey{Namespace: "default", Name: query})
	}
	return out
}

func holders(f *explain.Facts, addr netip.Addr) []lb.ServiceKey {
	var out []lb.ServiceKey
	for _, s := range f.Kube.Services {
		if s.HasAddr(addr) {
			out = append(out, s.Key)
		}
	}
	return out
}

func (p *Page) render(w http.ResponseWriter, name string, data any) {
	var text bytes.Buffer
	if err := p.pages.ExecuteTemplate(&text, name, data); err != nil {
		p.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(text.Bytes()) // the client has gone
}

// fail says that there is nothing to show. The cause is in the log: it may name what the reader may not see.
func (p *Page) fail(w http.ResponseWriter, err error) {
	p.o.Log.Warn("page not shown", "err", err)
	http.Error(w, "the facts could not be gathered; the controller's log says why", http.StatusServiceUnavailable)
}
