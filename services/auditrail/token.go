package main

import (
	"fmt"
	"os"
	"time"

	"github.com/auditrail/auditrail/services/internal/identity"
)

type tokenCmd struct {
	Customer     string        `help:"Subscription (customerUuid)." default:"${demo_customer}"`
	User         string        `help:"User (userUuid)." default:"${demo_user}"`
	Name         string        `help:"User name." default:"${demo_name}"`
	Role         string        `help:"One of ${enum}." enum:"Manager,Unit Manager,Auditor,Scanner,Reader,KnowledgeBase Only,Remediation User,Contact" default:"Manager"`
	BusinessUnit []string      `help:"Business unit of the user (repeatable)." sep:"none"`
	ViewAll      bool          `help:"See the whole subscription whatever the role."`
	Tier         string        `help:"One of ${enum}." enum:"Express Lite,Express,Standard,Enterprise,Premium" default:"Premium"`
	TTL          time.Duration `name:"ttl" help:"How long the token holds." default:"12h"`
	DataDir      string        `help:"Data folder of the dev that shall accept it." default:"./data" type:"path"`
}

// Run prints one token.
func (c *tokenCmd) Run() error {
	if _, err := os.Stat(c.DataDir); err != nil {
		return fmt.Errorf("--data-dir: %w: start auditrail dev with this folder first", err)
	}
	issuer, err := identity.OpenIssuer(c.DataDir)
	if err != nil {
		return err
	}
	token, err := issuer.Mint(identity.Identity{
		CustomerUUID: c.Customer, UserUUID: c.User, Name: c.Name, Role: identity.Role(c.Role),
		BusinessUnits: c.BusinessUnit, ViewAll: c.ViewAll, Tier: identity.Tier(c.Tier),
	}, c.TTL)
	if err != nil {
		return err
	}
	fmt.Println(token)
	return nil
}
