package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/jetway-project/jetway/internal/bus"
	"github.com/jetway-project/jetway/internal/gateway"
	"github.com/jetway-project/jetway/messages"
)

// gatewayCmd is `jetway gateway`, and `jetway gateway token`.
type gatewayCmd struct {
	Serve gatewayServeCmd `cmd:"" default:"withargs" help:"Run a gateway. This is what jetway gateway does by itself."`
	Token gatewayTokenCmd `cmd:"" help:"Make a token for clients of gateways."`
}

// gatewayServeCmd runs a gateway.
type gatewayServeCmd struct {
	natsFlags   `group:"NATS server:"`
	Listen      string `default:"127.0.0.1:9080" placeholder:"[HOST]:PORT" help:"Where clients connect. Without --tokens or --forward-auth the gateway asks nobody who he is, so it takes addresses of the loopback only. Default: ${default}."`
	Name        string `default:"${gateway_name}" help:"Name of this gateway (gw-…)."`
	URL         string `name:"url" placeholder:"URL" help:"Where clients reach gateways, for the status_url of a connect. Default: made of --listen."`
	Tokens      string `type:"path" placeholder:"FILE" help:"Who may ask for what: the lines that jetway gateway token makes. Read again when it changes."`
	ForwardAuth string `placeholder:"URL" help:"Ask this server about each request instead, as Plane does: with its method and headers, its path in x-original-path, and no body. 2xx lets it through, with all scopes. /pub is not asked about."`
	PrivatePub  bool   `help:"Ask for a token on /pub, too. Plane leaves /pub open: whoever knows a backend's id may see its status."`
	Rate        int    `default:"${rate}" help:"How many requests a second a token may make, unless its line says so. Default: ${default}."`
	MaxStreams  int    `default:"${max_streams}" help:"Most streams at once. One token, or one address without a token, gets half of them at most. Default: ${default}."`
	AccessLog   bool   `help:"Log every request when it has ended, without its token."`
	metricsFlags
	certFlags `group:"https:"`
}

// Run is a gateway until the command is stopped.
func (c *gatewayServeCmd) Run(r *run) error {
	if name, ok := strings.CutPrefix(c.Name, "gw-"); !ok || messages.CheckBackendID(name) != nil {
		return usagef("--name: must be \"gw-\" and more characters of a-z, 0-9 and '-'")
	}
	if c.Rate < 1 {
		return usagef("--rate: must be at least 1")
	}
	if c.MaxStreams < 1 {
		return usagef("--max-streams: must be at least 1")
	}
	server, err := c.serveGateway(r)
	if err != nil {
		return err
	}
	defer server.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return badFlag("--listen", err)
	}
	keeper, err := c.keeper(r, listener)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	gw, err := gateway.New(gateway.Config{
		Name:        c.Name,
		Listener:    listener,
		TLS:         keeper.tls(),
		URL:         c.URL,
		TokensFile:  c.Tokens,
		ForwardAuth: c.ForwardAuth,
		PrivatePub:  c.PrivatePub,
		Rate:        float64(c.Rate),
		MaxStreams:  c.MaxStreams,
		AccessLog:   c.AccessLog,
		Version:     version(),
		Metrics:     server,
		Log:         r.log,
	})
	if err != nil {
		keeper.abandon()
		return errors.Join(usagef("%v", err), listener.Close())
	}
	nc, err := c.connect(r, c.Name, "gateway", nil)
	if err != nil {
		keeper.abandon()
		_ = listener.Close()
		return stopped(r, err)
	}
	defer bus.Drain(nc, drainTimeout)
	defer keeper.start(r.ctx, nc)()
	return stopped(r, gw.Run(r.ctx, nc))
}

// gatewayTokenCmd is `jetway gateway token`.
type gatewayTokenCmd struct {
	Name       string   `arg:"" help:"Whose it is, for the log."`
	Scope      []string `required:"" placeholder:"SCOPE" help:"What it is for: connect (and revoke), read (status, listings, events, output, the page), operate (terminate, sleep, wake, drain, undrain, retry)."`
	Namespace  []string `placeholder:"NAME" help:"Only for keys of these namespaces, and not for drones. Default: for all."`
	Rate       float64  `placeholder:"N" help:"How many requests a second it may make. Default: what the gateways say."`
	TokensFile string   `name:"tokens" type:"path" placeholder:"FILE" help:"Add its line to this file; otherwise it is printed."`
}

// Run makes a token. Only its hash is in the line.
func (c *gatewayTokenCmd) Run(r *run) error {
	token, line, err := gateway.NewToken(gateway.Token{Name: c.Name, Scopes: c.Scope, Namespaces: c.Namespace, RequestsPerSecond: c.Rate})
	if err != nil {
		return usagef("%v", err)
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if c.TokensFile == "" {
		r.printf("%s\n", token)
		r.notef("add this line to the file of tokens:\n%s", text)
		return nil
	}
	if err := appendLine(c.TokensFile, string(text)); err != nil {
		return badFlag("--tokens", err)
	}
	r.printf("%s\n", token)
	return nil
}

// appendLine adds a line to a file, after what it has, which may lack its last newline.
func appendLine(path, line string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err = file.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	if err == nil {
		_, err = fmt.Fprintln(file, line)
	}
	return errors.Join(err, file.Close())
}
