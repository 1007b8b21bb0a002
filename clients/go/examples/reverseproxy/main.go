// Command reverseproxy is a small reverse proxy, HTTP and WebSockets through net/http/httputil, that reports to appstatsd who
// uses which app.
//
//	go run ./examples/reverseproxy -upstream http://127.0.0.1:9000 -appstatsd unix:/run/appstatsd/appstatsd.sock
//
// Who asks, and for what, comes in headers that whatever authenticates in front of this proxy sets (and strips from what came
// from outside): X-User-Id, X-Workspace-Id and X-Agent-Id, each a UUID. A request without them is not let through. How the app
// is reached stands in the URL:
//
//	/apps/SLUG/…, passed on as /…   path        SLUG
//	Host SLUG.apps.…                subdomain   SLUG
//	/terminal                       terminal    (empty)
//
// A WebSocket is one session, reported when it opens and ended when it is over, however that comes about. Any other request is
// a short session of its own, and none where nothing was used: a redirect, a 404, an upstream that is not there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/signal"
	"strings"
	"syscall"
	"time"

	appstatsd "github.com/appstatsd/appstatsd/clients/go"
)

// proxy passes requests on and reports them.
type proxy struct {
	client   *appstatsd.Client
	upstream *url.URL
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	app, path, status, err := whatIsUsed(r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	// Nothing is reported before it ends: only the answer shows whether the app was used.
	session := p.client.BeginWith(app, appstatsd.BeginOptions{Unreported: true})
	used := false
	forward := httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.Out.URL.Path, request.Out.URL.RawPath = path, ""
			request.SetURL(p.upstream)
		},
		ModifyResponse: func(response *http.Response) error {
			switch response.StatusCode {
			case http.StatusSwitchingProtocols:
				session = p.client.Begin(app) // from now on it is in use
				used = true
			case 301, 302, 303, 307, 308, http.StatusNotFound:
			default:
				used = true
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("the app does not answer: %v", err), http.StatusBadGateway)
		},
	}
	// ReverseProxy returns when the answer has been passed on, or the WebSocket is over on one side; where the browser has
	// gone in the middle of an answer it panics, and the session has to end then, too.
	defer func() {
		if used {
			session.End()
		}
	}()
	forward.ServeHTTP(w, r)
}

// whatIsUsed says which app a request is for, and which path to ask the upstream for; or with which status to refuse it.
func whatIsUsed(r *http.Request) (app appstatsd.App, path string, status int, err error) {
	method, slug, path := appstatsd.Path, "", r.URL.Path
	switch first, rest, _ := strings.Cut(r.Host, "."); {
	case strings.HasPrefix(rest, "apps.") || strings.HasPrefix(rest, "apps:"):
		method, slug = appstatsd.Subdomain, first
	case strings.HasPrefix(path, "/apps/"):
		slug, path, _ = strings.Cut(strings.TrimPrefix(path, "/apps/"), "/")
		path = "/" + path
	case path == "/terminal":
		method = appstatsd.Terminal
	default:
		return app, "", http.StatusNotFound, errors.New("no app; ask for /apps/SLUG/, SLUG.apps.HOST or /terminal")
	}
	var ids [3][16]byte
	for i, name := range []string{"X-User-Id", "X-Workspace-Id", "X-Agent-Id"} {
		if ids[i], err = appstatsd.ParseID(r.Header.Get(name)); err != nil {
			return app, "", http.StatusUnauthorized, fmt.Errorf("%s: %w", name, err)
		}
	}
	if app, err = appstatsd.NewApp(ids[0], ids[1], ids[2], method, slug); err != nil {
		return app, "", http.StatusUnauthorized, err
	}
	return app, path, 0, nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "HOST:PORT, port 0 for any")
	upstream := flag.String("upstream", "", "URL of the app behind this proxy")
	target := flag.String("appstatsd", "", "where appstatsd listens: unix:PATH or HOST:PORT")
	flag.Parse()
	if err := run(*listen, *upstream, *target); err != nil {
		log.Fatal(err)
	}
}

// run serves until it is interrupted or terminated.
func run(listen, upstream, target string) error {
	behind, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	client, err := appstatsd.New(target, appstatsd.Options{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := http.Server{Handler: &proxy{client, behind}, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	fmt.Printf("listening on http://%s\n", listener.Addr())

	over, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	select {
	case err := <-failed:
		return err
	case <-over.Done():
	}
	// Requests get a moment. WebSockets are not the server's any more: Close ends their sessions.
	soon, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = server.Shutdown(soon) // what takes longer is cut off
	client.Close(5 * time.Second)
	return nil
}
