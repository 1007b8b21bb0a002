package appstatsd_test

import (
	"os"
	"strings"
	"testing"
	"time"

	appstatsd "github.com/appstatsd/appstatsd/clients/go"
)

// report is the README's example, line by line.
func report() error {
	client, err := appstatsd.New("unix:/run/appstatsd/appstatsd.sock", appstatsd.Options{})
	if err != nil {
		return err
	}
	defer client.Close(5 * time.Second) // ends what is left, sends it, and waits for the daemon's confirmation

	user, workspace, agent := uuid(1), uuid(2), uuid(3) // what the proxy knows of a request
	app, err := appstatsd.NewApp(user, workspace, agent, appstatsd.Subdomain, "code")
	if err != nil {
		return err
	}
	session := client.Begin(app) // a new session, from now, with one request; live at the daemon
	defer session.End()
	session.Update(1) // one more request
	return nil
}

func uuid(last byte) [16]byte { return [16]byte{15: last} }

func TestTheLinesOfTheREADMEAreThoseThatAreCompiledHere(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := strings.Cut(string(readme), "```go\n")
	lines, _, _ = strings.Cut(lines, "```")
	if lines == "" || !strings.Contains(strings.ReplaceAll("\n"+string(own), "\n\t", "\n"), lines) {
		t.Error("the README has other lines")
	}
	_ = report
}
