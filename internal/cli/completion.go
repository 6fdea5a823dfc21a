package cli

import (
	"os"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"github.com/nats-io/nats.go"
	"github.com/posener/complete"

	"github.com/jetway-project/jetway/messages"
)

// completionTime bounds how long a shell waits for names of drones or backends.
const completionTime = time.Second

// suggestWords answers a shell that asks how a command line may go on. It gives false if none asks.
func suggestWords(r *run, parser *kong.Kong) (bool, error) {
	if os.Getenv("COMP_LINE") == "" {
		return false, nil
	}
	command, err := kongcompletion.Command(parser, kongcompletion.WithPredictors(map[string]complete.Predictor{
		"status": complete.PredictFunc(func(complete.Args) (words []string) {
			for _, s := range messages.Statuses {
				words = append(words, s.String())
			}
			return words
		}),
		"drone": complete.PredictFunc(func(complete.Args) (words []string) {
			return r.names(func(f *clientFlags, nc *nats.Conn) (words []string) {
				page, err := ask[messages.DronesResponse](r, f, nc, messages.SubjectDrones, messages.DronesRequest{})
				for i := range page.Drones {
					words = append(words, page.Drones[i].Drone)
				}
				return ifNil(words, err)
			})
		}),
		"template": complete.PredictFunc(func(complete.Args) []string {
			return r.names(func(f *clientFlags, nc *nats.Conn) []string { return templateNames(r, f, nc) })
		}),
		"backend": complete.PredictFunc(func(complete.Args) (words []string) {
			return r.names(func(f *clientFlags, nc *nats.Conn) (words []string) {
				page, err := ask[messages.BackendsResponse](r, f, nc, messages.SubjectBackends, messages.BackendsRequest{})
				for i := range page.Backends {
					words = append(words, page.Backends[i].BackendID)
				}
				return ifNil(words, err)
			})
		}),
	}))
	if err != nil {
		return true, err
	}
	completion := complete.New(parser.Model.Name, command)
	completion.Out = r.stdout
	return completion.Complete(), nil
}

func ifNil(words []string, err error) []string {
	if err != nil {
		return nil
	}
	return words
}

// names asks the server of the environment, and gives nothing where it does not answer: whoever types wants no errors.
func (r *run) names(list func(*clientFlags, *nats.Conn) []string) []string {
	f := &clientFlags{Timeout: r.bound(completionTime)}
	f.NATS, f.Context = os.Getenv("NATS_URL"), os.Getenv("NATS_CONTEXT")
	f.Creds, f.Nkey = os.Getenv("JETWAY_CREDS"), os.Getenv("JETWAY_NKEY")
	f.TLSCert, f.TLSKey, f.TLSCA = os.Getenv("JETWAY_TLS_CERT"), os.Getenv("JETWAY_TLS_KEY"), os.Getenv("JETWAY_TLS_CA")
	f.InboxPrefix = os.Getenv("JETWAY_INBOX_PREFIX")
	server, opts, err := f.resolve("operator")
	if err != nil {
		return nil
	}
	nc, err := nats.Connect(server, append([]nats.Option{nats.Timeout(f.Timeout), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}, opts...)...)
	if err != nil {
		return nil
	}
	defer nc.Close()
	return list(f, nc)
}
