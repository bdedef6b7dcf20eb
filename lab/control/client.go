package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Client asks a supervisor. It is safe for concurrent use.
type Client struct {
	http http.Client
}

// NewClient returns a Client for the socket at path.
func NewClient(path string) *Client {
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Progress calls each for every step of `up`, past and future, up to the last one.
func (c *Client) Progress(ctx context.Context, each func(Step)) error {
	body, err := c.do(ctx, http.MethodGet, "/v1/progress")
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var step Step
		if err := decoder.Decode(&step); err != nil {
			return fmt.Errorf("reading progress of the lab: %w", err)
		}
		each(step)
		if step.Ready || step.Error != "" {
			return nil
		}
	}
}

// Members lists the members.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var members []Member
	err := c.get(ctx, "/v1/members", &members)
	return members, err
}

// Status asks for everything.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.get(ctx, "/v1/status", &status)
	return status, err
}

// PowerOff kills every process of a node and takes its links down.
func (c *Client) PowerOff(ctx context.Context, node string) error {
	return c.post(ctx, "/v1/nodes/"+node+"/poweroff")
}

// PowerOn boots a node that is off.
func (c *Client) PowerOn(ctx context.Context, node string) error {
	return c.post(ctx, "/v1/nodes/"+node+"/poweron")
}

// CutLink takes the carrier from a node's LAN link.
func (c *Client) CutLink(ctx context.Context, node string) error {
	return c.post(ctx, "/v1/links/"+node+"/cut")
}

// HealLink gives the carrier back.
func (c *Client) HealLink(ctx context.Context, node string) error {
	return c.post(ctx, "/v1/links/"+node+"/heal")
}

// StopAPIServer ends the API server, with SIGKILL when force is set.
func (c *Client) StopAPIServer(ctx context.Context, force bool) error {
	path := "/v1/apiserver/stop"
	if force {
		path += "?force"
	}
	return c.post(ctx, path)
}

// StartAPIServer starts it again and returns when it is ready.
func (c *Client) StartAPIServer(ctx context.Context) error {
	return c.post(ctx, "/v1/apiserver/start")
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("parsing answer of the supervisor: %w", err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, path string) error {
	body, err := c.do(ctx, http.MethodPost, path)
	if err != nil {
		return err
	}
	return body.Close()
}

// do returns the body of a successful answer.
func (c *Client) do(ctx context.Context, method, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the supervisor: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading answer of the supervisor: %w", err)
	}
	return nil, fmt.Errorf("%s", strings.TrimSpace(string(text)))
}
