package appstatsd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// Version is that of this client, as the daemon's status shows it.
const Version = "0.1.0"

// retryDelayKey is trailing metadata of a stream: when to come back.
const retryDelayKey = "appstats-retry-delay-ms"

var hostAndPort = regexp.MustCompile(`^(\[[0-9a-fA-F:.%]+\]|[^:/\[\]]+):\d{1,5}$`)

// TLS is what mutual TLS needs; each is PEM.
type TLS struct {
	// CA holds the certificates that the daemon's is checked against.
	CA []byte
	// Certificate is the client's own, with its chain.
	Certificate []byte
	// Key is the key of it.
	Key []byte
}

// TLSFromFiles reads the three files.
func TLSFromFiles(ca, certificate, key string) (*TLS, error) {
	var read [3][]byte
	for i, path := range []string{ca, certificate, key} {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		read[i] = content
	}
	return &TLS{read[0], read[1], read[2]}, nil
}

// newChannel makes the channel to one daemon. Nothing is connected, and no goroutine waits, before its first call.
func newChannel(target string, own *TLS, limits Limits) (*grpc.ClientConn, error) {
	isUnix := strings.HasPrefix(target, "unix:") && len(target) > len("unix:")
	if !isUnix && !hostAndPort.MatchString(target) {
		return nil, fmt.Errorf("target is %q; it has to be unix:PATH or HOST:PORT", target)
	}
	if isUnix && own != nil {
		return nil, fmt.Errorf("target is %q; TLS is for HOST:PORT, the mode of a unix socket says who may connect", target)
	}
	secured := insecure.NewCredentials()
	if own != nil {
		config, err := own.config()
		if err != nil {
			return nil, err
		}
		secured = credentials.NewTLS(config)
	}
	if !isUnix {
		target = "passthrough:///" + target // the name is looked up anew for every attempt
	}
	wait := backoff.Config{BaseDelay: min(100*time.Millisecond, limits.ChannelBackoffMax), Multiplier: 1.6, Jitter: 0.2, MaxDelay: limits.ChannelBackoffMax}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(secured),
		// The wait between attempts is the client's own; the channel's must not come on top of it.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: limits.ConnectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: limits.KeepaliveTime, Timeout: limits.KeepaliveTimeout}),
		// What is sent again is the client's decision, and a daemon on this host is not behind the proxy of the environment.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithUserAgent("appstatsd-go/"+Version),
	)
}

func (own *TLS) config() (*tls.Config, error) {
	certificate, err := tls.X509KeyPair(own.Certificate, own.Key)
	if err != nil {
		return nil, fmt.Errorf("the client's certificate and key do not serve: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(own.CA) {
		return nil, errors.New("the CA holds no certificate in PEM")
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: authorities, MinVersion: tls.VersionTLS12}, nil
}

// retryDelay is what the daemon said about when to come back; noDelay: nothing that can be read.
func retryDelay(trailer metadata.MD) time.Duration {
	for _, value := range trailer.Get(retryDelayKey) {
		if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return noDelay
}
