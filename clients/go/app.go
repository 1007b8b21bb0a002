package appstatsd

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxSlugCharacters is how long a slug or port may be.
const MaxSlugCharacters = 256

// AccessMethod is how a user reached an app; the numbers of the wire.
type AccessMethod int32

const (
	// Path is by a path on the proxy's own host name.
	Path AccessMethod = 1
	// Subdomain is by a host name of the app's own.
	Subdomain AccessMethod = 2
	// Terminal is by a terminal.
	Terminal AccessMethod = 3
)

// App is one app of one workspace as one user reaches it: the five fields that many sessions share. NewApp makes one; it
// does not change, and can be used for any number of sessions. Equal apps are equal with ==.
type App struct {
	userID       [16]byte
	workspaceID  [16]byte
	agentID      [16]byte
	accessMethod AccessMethod
	slugOrPort   string
}

// NewApp makes an App. The ids are UUIDs in network order (a github.com/google/uuid.UUID can be passed as it is; ParseID
// reads text).
//
// What an App holds the daemon accepts: it is an error here where an id is nil, where slugOrPort is longer than 256
// characters, holds a NUL or is not UTF-8, or is empty though the access method is not Terminal.
func NewApp(userID, workspaceID, agentID [16]byte, accessMethod AccessMethod, slugOrPort string) (App, error) {
	for _, id := range []struct {
		name  string
		value [16]byte
	}{{"userID", userID}, {"workspaceID", workspaceID}, {"agentID", agentID}} {
		if id.value == ([16]byte{}) {
			return App{}, fmt.Errorf("%s is nil; it has to be a UUID that is not", id.name)
		}
	}
	if accessMethod < Path || accessMethod > Terminal {
		return App{}, fmt.Errorf("accessMethod is %d; it has to be Path, Subdomain or Terminal", accessMethod)
	}
	if !utf8.ValidString(slugOrPort) || strings.ContainsRune(slugOrPort, 0) || utf8.RuneCountInString(slugOrPort) > MaxSlugCharacters {
		return App{}, fmt.Errorf("slugOrPort is %q; it has at most %d characters of UTF-8, and no NUL", slugOrPort, MaxSlugCharacters)
	}
	if slugOrPort == "" && accessMethod != Terminal {
		return App{}, fmt.Errorf("slugOrPort is empty; only a terminal's may be")
	}
	return App{userID, workspaceID, agentID, accessMethod, slugOrPort}, nil
}

// ParseID reads a UUID as text, with or without hyphens.
func ParseID(text string) ([16]byte, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != 16 {
		return [16]byte{}, fmt.Errorf("%q is no UUID; it has to be 32 hexadecimal digits", text)
	}
	return [16]byte(raw), nil
}

// wireBytes is at most how much an app adds to a batch: its fields, and tags and lengths of these and of the message.
func (a *App) wireBytes() int {
	return 3*16 + 1 + len(a.slugOrPort) + 18
}
