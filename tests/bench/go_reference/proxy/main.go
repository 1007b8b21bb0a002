// Command proxy is a busy proxy: sessions begin at a rate and end some time later, through the Go client as it comes.
package main

import (
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"time"

	appstatsd "github.com/appstatsd/appstatsd/clients/go"
)

func main() {
	target := flag.String("target", "", "where the daemon listens")
	rate := flag.Int("rate", 10_000, "sessions that begin in a second")
	seconds := flag.Float64("seconds", 2, "how long sessions begin")
	last := flag.Duration("last", 1500*time.Millisecond, "how long a session lasts")
	flag.Parse()
	client, err := appstatsd.New(*target, appstatsd.Options{})
	if err != nil {
		log.Fatal(err)
	}
	apps := make([]appstatsd.App, 100)
	for place := range apps {
		slug := fmt.Sprint("app-", place)
		if apps[place], err = appstatsd.NewApp(id(), id(), id(), appstatsd.Path, slug); err != nil {
			log.Fatal(err)
		}
	}

	began := time.Now()
	ended := make(chan struct{})
	sessions := make(chan *appstatsd.Session, *rate*10)
	go func() {
		defer close(ended)
		number := 0
		for session := range sessions {
			pace(began.Add(*last), number, *rate)
			session.End()
			number++
		}
	}()
	for number := range int(*seconds * float64(*rate)) {
		pace(began, number, *rate)
		sessions <- client.Begin(apps[number%len(apps)])
	}
	close(sessions)
	<-ended
	if !client.Close(10 * time.Second) {
		log.Fatal("not everything was acknowledged")
	}
	fmt.Println("done")
}

// pace waits until it is the turn of this number.
func pace(began time.Time, number, rate int) {
	time.Sleep(time.Until(began.Add(time.Duration(number) * time.Second / time.Duration(rate))))
}

func id() (made [16]byte) {
	_, _ = rand.Read(made[:])
	return made
}
