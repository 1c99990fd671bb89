package server

import "net/http"

// AddPage makes a page answer GET and HEAD at path, for whoever may have the
// table. It is for before the server serves.
func (s *Server) AddPage(path string, page http.Handler) {
	if s.pages == nil {
		s.pages = map[string]http.Handler{}
	}
	s.pages[path] = page
}

// Monitoring returns an HTTP server that serves the pages and /healthz to
// everybody, and nothing else. It has not been started.
func (s *Server) Monitoring() *http.Server {
	return s.web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serveOpen(w, r); err != nil {
			s.fail(w, r, err)
		}
	}))
}

// serveOpen serves what can be had without a token.
func (s *Server) serveOpen(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength != 0 {
		return errBody
	}
	if r.URL.Path == "/healthz" {
		return s.serveHealth(w, r)
	}
	if page := s.pages[r.URL.Path]; page != nil {
		return servePage(w, r, page)
	}
	return errNotFound
}

func servePage(w http.ResponseWriter, r *http.Request, page http.Handler) error {
	if !reads(r) {
		return errMethod
	}
	w.Header().Set("Cache-Control", "no-store")
	page.ServeHTTP(w, r)
	return nil
}
