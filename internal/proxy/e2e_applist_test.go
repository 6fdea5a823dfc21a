//go:build apps

package proxy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"
)

// app is one application: how its line in the table begins, how deploy/apps/app calls it, and what somebody does with it.
type app struct {
	name, program string
	works         func(s *session) error
}

var allApps = []app{
	{"JupyterLab, with a kernel", "jupyter", worksJupyter},
	{"Vite dev, with hot reload", "vite", worksVite},
	{"Next.js dev, with hot reload", "next", worksNext},
	{"Gradio", "gradio", worksGradio},
	{"Streamlit, with an upload", "streamlit", worksStreamlit},
	{"socket.io with its defaults", "socketio", worksSocketIO},
	{"Flask logins, with ProxyFix", "flask", worksFlask},
	{"FastAPI `/docs`", "fastapi", worksFastAPI},
	{"y-websocket", "y", worksY},
}

// The front end's own client starts a kernel and hears by its WebSocket what that prints.
func worksJupyter(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.sees(`window.jupyterapp && document.querySelector(".jp-Launcher")`) },
		func() error {
			return p.runs(`void (async () => {
				const kernel = await jupyterapp.serviceManager.kernels.startNew();
				const done = kernel.requestExecute({code: "print(6 * 7)"});
				done.onIOPub = said => { if (said.content.name === "stdout") window.printed = said.content.text; };
			})()`)
		},
		func() error { return p.sees(`window.printed === "42\n"`) },
	)
}

func worksVite(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.sees(`document.getElementById("text")?.textContent === "before"`) },
		func() error { return p.runs(`window.mine = 1`) },
		func() error {
			return p.seesEdited("text.js", `document.getElementById("text").textContent === "after" && window.mine === 1`)
		},
	)
}

func worksNext(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.sees(`document.querySelector("button")?.textContent === "before 0"`) },
		// Until React has taken over the page, a click does nothing.
		func() error {
			return p.sees(`(b => b.textContent === "before 0" ? (b.click(), false) : true)(document.querySelector("button"))`)
		},
		func() error {
			return p.seesEdited("app/text.js", `/^after [1-9]/.test(document.querySelector("button")?.textContent)`)
		},
	)
}

func worksGradio(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.do(chromedp.SendKeys(chromedp.CSS("textarea, input[type=text]"), "Ada")) },
		func() error {
			return p.runs(`[...document.querySelectorAll("button")].find(b => b.textContent.trim() === "Submit").click()`)
		},
		func() error {
			return p.sees(`[...document.querySelectorAll("textarea, input")].some(t => t.value === "Hello Ada!")`)
		},
	)
}

func worksStreamlit(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	file := filepath.Join(s.t.TempDir(), "data.txt")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 3_000_000), 0o600); err != nil {
		return err
	}
	return steps(
		func() error { return p.do(chromedp.SetUploadFiles(chromedp.CSS("input[type=file]"), []string{file})) },
		func() error { return p.sees(`document.body.innerText.includes("data.txt has 3000000 bytes")`) },
	)
}

func worksSocketIO(s *session) error {
	p, err := s.open("")
	if err != nil {
		return err
	}
	return p.sees(`window.said === "hello"`)
}

// Two people are logged in, in one browser, and neither becomes the other.
func worksFlask(s *session) error {
	var pages []*tab
	users := []string{"ada", "bob"}
	for _, user := range users {
		p, err := s.open("")
		if err != nil {
			return err
		}
		pages = append(pages, p)
		if err := steps(
			func() error { return p.do(chromedp.SendKeys(chromedp.CSS("input[name=user]"), user)) },
			func() error { return p.do(chromedp.Click(chromedp.CSS("button"))) },
			func() error { return p.sees(`document.getElementById("text")?.textContent === "` + user + ` 1"`) },
		); err != nil {
			return err
		}
	}
	for _, visit := range []string{"2", "3"} {
		for i, p := range pages {
			if err := steps(
				func() error { return p.do(chromedp.Reload()) },
				func() error {
					return p.sees(`document.getElementById("text")?.textContent === "` + users[i] + " " + visit + `"`)
				},
			); err != nil {
				return err
			}
		}
	}
	return nil
}

func worksFastAPI(s *session) error {
	p, err := s.open("/docs")
	if err != nil {
		return err
	}
	return steps(
		func() error { return p.sees(`document.body.innerText.includes("/items/")`) },
		// It redirects to the path with the slash.
		func() error {
			return p.runs(`void fetch("items").then(r => r.text()).then(text => { window.items = text; })`)
		},
		func() error { return p.sees(`window.items === '["one"]'`) },
	)
}

// Two tabs edit one document.
func worksY(s *session) error {
	one, err := s.open("")
	if err != nil {
		return err
	}
	other, err := s.show(one.link)
	if err != nil {
		return err
	}
	return steps(
		func() error { return one.sees(`window.text`) },
		func() error { return one.runs(`void text.insert(0, "hello")`) },
		func() error { return other.sees(`window.text && String(text) === "hello"`) },
	)
}

// seesEdited changes a file, again and again as long as nobody may be listening yet, until an expression holds in the page.
func (p *tab) seesEdited(file, expression string) error {
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		every := time.NewTicker(3 * time.Second)
		defer every.Stop()
		for {
			if err := p.edit(file); err != nil {
				stopped <- err
				return
			}
			select {
			case <-every.C:
			case <-stop:
				stopped <- nil
				return
			}
		}
	}()
	err := p.sees(expression)
	close(stop)
	if edited := <-stopped; edited != nil {
		return edited
	}
	return err
}
