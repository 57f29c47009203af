package query

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/auditrail/auditrail/pkg/apicall"
	"github.com/auditrail/auditrail/services/internal/identity"
	"github.com/auditrail/auditrail/services/internal/problem"
)

// endpoint is one row of the route table. Its handler gets a verified caller
// and either writes the answer or returns an error, which becomes a problem
// document. Every row is described in openapi.json.
type endpoint struct {
	name   string // metric label
	method string
	path   string // http.ServeMux path pattern
	serve  func(w http.ResponseWriter, r *http.Request, id identity.Identity) error
	// file says that a request is answered by a file or a stream, which takes its
	// time: such calls hold no place among the concurrent ones. nil: none is.
	file func(*http.Request) bool
}

// api is what limits and the list of API calls call it.
func (e endpoint) api() string { return strings.TrimPrefix(e.path, "/") }

// endpoints is the route table.
func (s *Service) endpoints() []endpoint {
	always := func(*http.Request) bool { return true }
	return []endpoint{
		{"search", http.MethodPost, "/audit-log/admin/search", s.search, nil},
		{"facets", http.MethodPost, "/audit-log/admin/search/facets", s.facets, nil},
		{"histogram", http.MethodPost, "/audit-log/admin/search/histogram", s.histogram, nil},
		{"export", http.MethodPost, "/audit-log/admin/search/export", s.export, always},
		{"validate", http.MethodPost, "/audit-log/admin/search/validate", s.validate, nil},
		{"fields", http.MethodGet, "/audit-log/admin/search/fields", s.fields, nil},
		{"event", http.MethodGet, "/audit-log/admin/events/{id}", s.event, nil},
		{"settings", http.MethodGet, "/audit-log/admin/settings", s.showSettings, nil},
		{"settings", http.MethodPut, "/audit-log/admin/settings", s.changeSettings, nil},
		{"limits", http.MethodGet, limitsPath, s.showLimits, nil},
		{"limits", http.MethodPut, limitsPath, s.changeLimits, nil},
		{"limits", http.MethodDelete, limitsPath, s.dropLimits, nil},
		{"api-calls", http.MethodGet, callsPath, s.apiCalls, wantsCSV},
		{"api-calls-summary", http.MethodGet, callsPath + "/summary", s.callsSummary, nil},
		{"api-call", http.MethodGet, callsPath + "/{callId}", s.apiCall, nil},
		{"report-create", http.MethodPost, reportPath, s.createReport, nil},
		{"reports", http.MethodGet, reportPath, s.listReports, nil},
		{"report", http.MethodGet, reportPath + "/{id}", s.showReport, nil},
		{"report-delete", http.MethodDelete, reportPath + "/{id}", s.deleteReport, nil},
		{"report-cancel", http.MethodPost, reportPath + "/{id}/cancel", s.cancelReport, nil},
		{"report-rerun", http.MethodPost, reportPath + "/{id}/rerun", s.rerunReport, nil},
		{"report-events", http.MethodGet, reportPath + "/{id}/events", s.reportEvents, always},
		{"report-manifest", http.MethodGet, reportPath + "/{id}/manifest", s.reportManifest, nil},
		{"report-download", http.MethodGet, reportPath + "/{id}/download", s.downloadReport, always},
		{"report-download", http.MethodHead, reportPath + "/{id}/download", s.downloadReport, always},
	}
}

// routes builds the handler of the whole API.
func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	authenticate := identity.Middleware(s.verifier, s.log)
	byPath := map[string][]endpoint{}
	for _, e := range s.endpoints() {
		byPath[e.path] = append(byPath[e.path], e)
	}
	for path, group := range byPath {
		methods := make(map[string]http.Handler, len(group))
		for _, e := range group {
			methods[e.method] = named(e.name, authenticate(s.limited(e)))
		}
		mux.Handle(path, s.byMethod(methods))
	}
	mux.Handle(openAPIPath, s.byMethod(map[string]http.Handler{http.MethodGet: named("openapi", http.HandlerFunc(serveOpenAPI))}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, s.log, problem.Newf(problem.KindNotFound, "There is nothing at %s.", problem.Shorten(r.URL.Path)))
	})
	return s.observe(s.recover(mux))
}

// limited puts an endpoint under its limits.
func (s *Service) limited(e endpoint) http.Handler {
	var options []apicall.Option
	if e.path == limitsPath { // limits must not keep out who would change them
		options = append(options, apicall.Unlimited())
	}
	placed := s.calls.Handler(e.api(), s.endpoint(e), options...)
	unplaced := s.calls.Handler(e.api(), s.endpoint(e), append(options, apicall.Unplaced())...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, ok := identity.FromContext(r.Context()); ok {
			exchangeOf(r).tenant = id.CustomerUUID // also of a call that is blocked
		}
		if e.file != nil && e.file(r) {
			unplaced.ServeHTTP(w, r)
		} else {
			placed.ServeHTTP(w, r)
		}
	})
}

// byMethod picks the handler of the request's method, or answers 405.
func (s *Service) byMethod(methods map[string]http.Handler) http.Handler {
	var names []string
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	allow := strings.Join(names, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := methods[r.Method]; ok {
			h.ServeHTTP(w, r)
			return
		}
		problem.Write(w, r, s.log, &problem.Error{
			Kind:   problem.KindInvalid,
			Status: http.StatusMethodNotAllowed,
			Detail: fmt.Sprintf("%s answers %s only.", r.URL.Path, allow),
			Header: http.Header{"Allow": {allow}},
		})
	})
}

// named labels what is answered from here on, refusals included.
func named(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r).endpoint = name
		next.ServeHTTP(w, r)
	})
}

// endpoint adapts an endpoint's handler to HTTP.
func (s *Service) endpoint(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := identity.FromContext(r.Context())
		if !ok { // a route without the middleware: fail closed
			problem.Write(w, r, s.log, problem.New(problem.KindInternal, "no identity"))
			return
		}
		err := e.serve(w, r, id)
		switch {
		case err == nil:
		case errors.Is(err, errClientGone):
			panic(http.ErrAbortHandler) // returning would send an empty 200
		default:
			problem.Write(w, r, s.log, err)
		}
	})
}
