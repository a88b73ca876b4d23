package main

import (
	"flag"
	"fmt"

	"countersign/gate/internal/containerspolicy"
	"countersign/gate/internal/reference"
)

// crioPolicyVersion is that of what "crio-policy" prints.
const crioPolicyVersion = "countersign.crio-policy/v1"

// ownEngine is what "crio-policy" is told of CRI-O's own engine.
type ownEngine struct {
	engine string
	tags   []string
}

func crioEngine(engine *string, flags *flag.FlagSet) {
	flags.StringVar(engine, "crio-engine", engineStrict, "CRI-O's own `ENGINE`: strict refuses all that it can't verify itself, lenient leaves signatures to the gate, at start")
}

func checkCrioEngine(engine string) error {
	if engine != engineStrict && engine != engineLenient {
		return fmt.Errorf("--crio-engine %q, expected %s or %s", engine, engineStrict, engineLenient)
	}
	return nil
}

func (o *ownEngine) flags(flags *flag.FlagSet) {
	crioEngine(&o.engine, flags)
	o.tags = []string{} // whoever asks knows them
	flags.Func("tag", "`NAME` by tag under which a kubelet pulls an image that is pinned: the engine lets it pass; may be given more than once", func(name string) error {
		found, err := reference.Parse(name)
		if err == nil {
			o.tags = append(o.tags, found.String())
		}
		return err
	})
}

// crioPolicy prints a rendered policy in the form of CRI-O's own engine.
func crioPolicy(c *invocation) int {
	if err := checkCrioEngine(c.own.engine); err != nil {
		return c.misused(err)
	}
	p, ended := c.givenPolicy()
	if p == nil {
		return ended
	}
	found, err := containerspolicy.Render(p, containerspolicy.Form{Lenient: c.own.engine == engineLenient, Tags: c.own.tags})
	if err == nil {
		err = c.printJSON(map[string]string{
			"version": crioPolicyVersion, "policy": string(found.Policy), "registriesD": string(found.RegistriesD),
		})
	}
	if err != nil {
		return c.fail(err)
	}
	return exitOK
}
