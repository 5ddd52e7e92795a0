package client

import "time"

// SetPause changes how long an answer is held back that came too soon.
func (c *Client) SetPause(d time.Duration) { c.pause = d }

// SetLimit changes how long a call may take.
func (c *Client) SetLimit(d time.Duration) { c.limit = d }
