package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Browser is a Chromium with one page. Its methods must not be called concurrently.
type Browser struct {
	cmd     *exec.Cmd
	to      *os.File
	replies chan message
	session string
	next    int
	width   int // of the window
	stop    sync.Once

	Complaints []string // what the page's console and its policy said, as far as it was read
}

// message is a call, its answer or an event of the protocol.
type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// Start starts the program, chromium unless path says otherwise, with its files in dir. It ends with ctx, or by Close.
func Start(ctx context.Context, path, dir string) (*Browser, error) {
	in, to, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the browser: %w", err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the browser: %w", err)
	}
	// Root in a lab has no sandbox; the pages are our own.
	cmd := exec.CommandContext(ctx, path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // descriptors 3 and 4, where the browser looks for its pipes
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir)
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it has children
	err = cmd.Start()
	_, _ = in.Close(), out.Close()
	if err != nil {
		_, _ = to.Close(), from.Close()
		return nil, fmt.Errorf("starting the browser: %w", err)
	}
	b := &Browser{cmd: cmd, to: to, replies: make(chan message, 1000)}
	go b.read(from)
	if err := b.attach(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// read passes on what the browser says, messages that end with a zero byte.
func (b *Browser) read(from *os.File) {
	defer close(b.replies)
	defer from.Close()
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) == nil {
			b.replies <- m
		}
	}
}

// attach finds the one page and follows what happens in it.
func (b *Browser) attach(ctx context.Context) error {
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	if err := b.call(ctx, "Target.getTargets", nil, &targets); err != nil {
		return err
	}
	for _, t := range targets.TargetInfos {
		if t.Type != "page" {
			continue
		}
		var attached struct{ SessionID string }
		if err := b.call(ctx, "Target.attachToTarget", map[string]any{"targetId": t.TargetID, "flatten": true}, &attached); err != nil {
			return err
		}
		b.session = attached.SessionID
		for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
			if err := b.call(ctx, domain+".enable", nil, nil); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("looking for the browser's page: there is none")
}

// call sends a command and waits for its answer.
func (b *Browser) call(ctx context.Context, method string, params, into any) error {
	b.next++
	id := b.next
	text, err := json.Marshal(message{ID: id, SessionID: b.session, Method: method, Params: params})
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		return fmt.Errorf("calling %s: %w", method, err)
	}
	m, err := b.await(ctx, func(m message) bool { return m.ID == id })
	switch {
	case err != nil:
		return fmt.Errorf("calling %s: %w", method, err)
	case m.Error != nil:
		return fmt.Errorf("calling %s: %s", method, m.Error.Message)
	case into == nil:
		return nil
	}
	return json.Unmarshal(m.Result, into)
}

// await reads until a message is the one. What the console says meanwhile is kept.
func (b *Browser) await(ctx context.Context, one func(message) bool) (message, error) {
	for {
		select {
		case m, ok := <-b.replies:
			if !ok {
				return m, io.ErrUnexpectedEOF
			}
			if m.Method == "Log.entryAdded" || m.Method == "Runtime.exceptionThrown" {
				text, _ := json.Marshal(m.Params)
				b.Complaints = append(b.Complaints, string(text))
			}
			if one(m) {
				return m, nil
			}
		case <-ctx.Done():
			return message{}, context.Cause(ctx)
		}
	}
}

// Look is what a page is looked at with.
type Look struct {
	Width, Height int
	Phone         bool // touch, and no scroll bars beside the page
	Dark          bool
	Calm          bool // prefers-reduced-motion
}

// Open loads a page and waits until all of it is there.
func (b *Browser) Open(ctx context.Context, url string, l Look) error {
	b.width = l.Width
	scheme, motion := "light", "no-preference"
	if l.Dark {
		scheme = "dark"
	}
	if l.Calm {
		motion = "reduce"
	}
	for method, params := range map[string]any{
		"Emulation.setDeviceMetricsOverride": map[string]any{"width": l.Width, "height": l.Height, "deviceScaleFactor": 1, "mobile": l.Phone},
		"Emulation.setEmulatedMedia":         map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}}},
	} {
		if err := b.call(ctx, method, params, nil); err != nil {
			return err
		}
	}
	var went struct{ ErrorText string }
	if err := b.call(ctx, "Page.navigate", map[string]any{"url": url}, &went); err != nil {
		return err
	}
	if went.ErrorText != "" {
		return fmt.Errorf("opening %s: %s", url, went.ErrorText)
	}
	return b.Settle(ctx)
}

// Settle waits until the page that is there, or is about to be, is complete.
func (b *Browser) Settle(ctx context.Context) error {
	const done = `new Promise(r => document.readyState === "complete" ? r(true) : addEventListener("load", () => r(true)))`
	var complete bool
	for {
		err := b.Eval(ctx, done, &complete)
		if err == nil && complete || ctx.Err() != nil {
			return err
		}
		if err != nil && !strings.Contains(err.Error(), "context") && !strings.Contains(err.Error(), "navigated") { // of the page before, which has gone
			return err
		}
	}
}

// Eval evaluates an expression in the page, a promise until it is kept, into what can be read from JSON.
func (b *Browser) Eval(ctx context.Context, expression string, into any) error {
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if err := b.call(ctx, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &answer); err != nil {
		return err
	}
	if e := answer.ExceptionDetails; e != nil {
		return fmt.Errorf("evaluating in the page: %s %s", e.Text, e.Exception.Description)
	}
	if len(answer.Result.Value) == 0 {
		return nil // undefined
	}
	return json.Unmarshal(answer.Result.Value, into)
}

// Press presses and releases a key, such as Tab or Enter.
func (b *Browser) Press(ctx context.Context, key string, code int) error {
	text := map[string]string{"Enter": "\r"}[key]
	for _, kind := range []string{"keyDown", "keyUp"} {
		if err := b.call(ctx, "Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Type enters text where the focus is.
func (b *Browser) Type(ctx context.Context, text string) error {
	return b.call(ctx, "Input.insertText", map[string]any{"text": text}, nil)
}

// Screenshot returns a PNG of the whole page.
func (b *Browser) Screenshot(ctx context.Context) ([]byte, error) {
	var shot struct{ Data string }
	if err := b.call(ctx, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(shot.Data)
}

// Close ends the browser.
func (b *Browser) Close() {
	b.stop.Do(func() {
		_ = b.to.Close()
		_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
		_ = b.cmd.Wait()
	})
}
