//go:build !noengine && (linux || darwin)

package tcp

import (
	"time"
)

// hello reads the client's, checks the user, opens the session in the client's
// database, and answers.
func (c *conn) hello() error {
	_ = c.nc.SetDeadline(time.Now().Add(helloTimeout))
	if p := c.in.uvarint(); c.in.err == nil && p != clientHello {
		return unexpected(p, "instead of the hello; is this an HTTP client on the native port?")
	}
	c.in.short() // client's name
	c.in.uvarint()
	c.in.uvarint()
	c.rev = min(c.in.uvarint(), revision)
	database, user, password := c.in.short(), c.in.short(), c.in.short()
	if c.in.err != nil {
		return c.in.err
	}
	err := c.server.Login.Check(user, password)
	if err == nil {
		c.session, err = c.server.Sessions.New(database)
	}
	if err != nil {
		c.out.exception(err)
		_ = c.out.Flush()
		return errDone
	}
	c.sayHello()
	if err := c.out.Flush(); err != nil {
		return err
	}
	if c.rev >= revAddendum {
		c.in.short() // quota key
	}
	_ = c.nc.SetDeadline(time.Time{})
	return c.in.err
}

func (c *conn) sayHello() {
	version := c.server.Sessions.Version()
	c.out.uvarint(serverHello)
	c.out.text("ClickHouse")
	c.out.uvarint(version[0])
	c.out.uvarint(version[1])
	c.out.uvarint(revision)
	if c.rev >= revTimezone {
		c.out.text(c.server.Sessions.Timezone())
	}
	if c.rev >= revDisplayName {
		c.out.text("auditrail-engine")
	}
	if c.rev >= revVersionPatch {
		c.out.uvarint(version[2])
	}
}
