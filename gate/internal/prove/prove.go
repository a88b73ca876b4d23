// Package prove shows on a node that its enforcement works: an image that nobody signed
// is refused at pull and, brought in past that, at start under every runtime handler,
// and an image that the policy allows gets through. Settings can be looked at (package
// doctor); only a refusal by the gate that arrives in the runtime's own error shows that
// every part of the way is there.
package prove

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"countersign/gate/internal/clean"
	"countersign/gate/internal/code"
	"countersign/gate/internal/config"
	"countersign/gate/internal/verdict"
	"countersign/gate/internal/wire"
)

// Config says what to prove, and where.
type Config struct {
	Gate         *config.Config // of the node
	Version      string         // of this gate
	Image        string         // one that the policy has to allow; "" for one that is there
	CgroupParent string         // of the pods; "" for one that fits the runtime's cgroup driver
	Certs        string         // CRI-O's certs.d

	listen func() (net.Listener, error) // for tests, which may not have the port
}

// CrioCerts is where CRI-O finds the CAs of registries (containers-certs.d(5)).
const CrioCerts = "/etc/containers/certs.d"

const (
	// within bounds a proof, however slow the machine, and afterwards the taking back.
	within    = 90 * time.Second
	afterward = 20 * time.Second
	// answers bounds the gate's answer to a ping.
	answers = 5 * time.Second
	// tries is how often a start is tried whose failure is none of the gate's: a kubelet
	// removes pods that it does not know.
	tries = 3
	// maxShown bounds what of a runtime's error is shown.
	maxShown = 2048
	// native begins the refusals of CRI-O's own engine.
	native = "SignatureValidationFailed"
	// expected is the code of an image in a scope that asks for signatures it has not.
	expected = code.Unsigned
)

var errLeft = errors.New("not everything could be taken back; run it again")

// proof is one run.
type proof struct {
	Config
	runtime *runtime
	way     way
	mu      sync.Mutex
	receipt Receipt
}

// way is how an image gets into a runtime's store past the check at pull.
type way interface {
	bringIn(ctx context.Context, of *image) error
	forget(ctx context.Context) error
}

// Run tries it all and gives the receipt. The error is that of a machine on which it
// could not be tried, or of something that could not be taken back.
func Run(ctx context.Context, c Config) (receipt *Receipt, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	socket := c.Gate.Containerd.Address
	if c.Gate.Crio != nil {
		socket = c.Gate.Crio.Socket
	}
	r, err := dial(socket, c.CgroupParent)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.conn.Close() }()
	if c.listen == nil {
		c.listen = loopbackOnly
	}
	p := &proof{Config: c, runtime: r, way: crio{r}}
	if c.Gate.Crio == nil {
		p.way = newContainerd(r.conn, c.Gate.Containerd.Namespace)
	}
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	err = p.whileServed(ctx)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, errLeft):
		return nil, errors.New("interrupted; what was begun is taken back, and nothing is proven")
	case err != nil:
		return nil, err
	}
	p.receipt.Millis = time.Since(p.receipt.Started).Milliseconds()
	p.receipt.Proven.Refuse = len(p.receipt.Problems) == 0
	return &p.receipt, nil
}

// begin fills in what the receipt is about.
func (p *proof) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answers)
	defer cancel()
	p.receipt = Receipt{Version: Version, Gate: p.Version, Started: time.Now().UTC(), Refused: []Refusal{}, Allowed: []Allowed{}, Problems: []Problem{}, Notes: []string{}}
	gate, err := wire.Call(ctx, p.Gate.Socket, wire.Ping, nil)
	if err != nil {
		return fmt.Errorf("the gate at %s does not answer: %w; start countersign-gate and look at its log", p.Gate.Socket, err)
	}
	p.receipt.Policy = Policy{Hash: gate.Policy, Serial: gate.Serial}
	if p.receipt.Node, err = os.Hostname(); err != nil {
		return err
	}
	p.runtime.parent(ctx)
	p.receipt.Runtime, err = p.runtime.version(ctx)
	return err
}

// whileServed does what needs the canary's registry, and takes everything back.
func (p *proof) whileServed(ctx context.Context) (err error) {
	handlers, err := p.runtime.handlers(ctx)
	if err != nil {
		return err
	}
	canary, err := newImage(p.hook())
	if err != nil {
		return err
	}
	p.receipt.Canary = Repository + "@" + canary.manifest.descriptor.Digest.String()
	registry, err := serve(ctx, canary, p.listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	files := p.files(registry.CA)
	if err := p.takeBack(ctx, files); err != nil { // of one that was killed
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterward)
		defer cancel()
		if left := p.takeBack(after, files); left != nil {
			err = errors.Join(err, fmt.Errorf("%w: %w", errLeft, left))
		}
	}()
	for _, file := range files {
		if err := file.put(); err != nil {
			return err
		}
	}
	if err := p.refusals(ctx, canary, handlers); err != nil {
		return err
	}
	return p.allow(ctx, handlers)
}

// takeBack removes whatever a proof leaves on a node while it runs.
func (p *proof) takeBack(ctx context.Context, files []*placed) error {
	err := errors.Join(p.runtime.removePods(ctx), p.runtime.removeImages(ctx), p.way.forget(ctx))
	for _, file := range files {
		err = errors.Join(err, file.takeBack())
	}
	return err
}

// refusals tries the canary at pull and, past that, at start under every handler.
func (p *proof) refusals(ctx context.Context, canary *image, handlers []string) error {
	p.pullCanary(ctx)
	if err := p.way.bringIn(ctx, canary); err != nil {
		return fmt.Errorf("the canary could not be brought in past the check at pull, so no start was tried: %w", err)
	}
	id, err := p.runtime.await(ctx, Reference)
	if err != nil {
		return err
	}
	err = each(handlers, func(handler string) error {
		where := "start of " + Reference + " under the handler " + handler
		err := p.start(ctx, handler, id, Reference, "")
		p.judge(where, err, Refusal{Layer: string(verdict.Create), Handler: handler})
		return ctx.Err()
	})
	return err
}

// pullCanary tries a pull: the gate has to refuse it on containerd, CRI-O's own engine
// on CRI-O.
func (p *proof) pullCanary(ctx context.Context) {
	if p.Gate.Crio == nil {
		_, err := p.runtime.pull(ctx, Reference)
		p.judge("pull of "+Reference, err, Refusal{Layer: string(verdict.Pull)})
		return
	}
	name := Refused + ":" + tag
	_, err := p.runtime.pull(ctx, name)
	if err != nil && strings.Contains(err.Error(), native) {
		p.refused(Refusal{Layer: string(verdict.Pull), By: "crio", Reason: native})
		return
	}
	p.problem("pull of "+name, found(err), native+", by CRI-O's own policy")
}

// start is tried again where neither the gate nor a start ended it.
func (p *proof) start(ctx context.Context, handler, id, name, program string) (err error) {
	for range tries {
		if err = p.runtime.start(ctx, handler, id, name, program); err == nil {
			return nil
		}
		if _, _, ours := refusal(err); ours || pause(ctx, 50*time.Millisecond) != nil {
			return err
		}
	}
	return err
}

// judge holds what came of a trial against the only outcome that is good: a refusal of
// the canary by the gate, for the one right reason.
func (p *proof) judge(where string, err error, as Refusal) {
	image, reason, ok := refusal(err)
	if ok && reason == expected && strings.HasPrefix(image, Repository) {
		as.By, as.Reason = "gate", string(reason)
		p.refused(as)
		return
	}
	want := "a refusal by the gate with " + string(expected)
	if ok && reason == code.NoScope {
		want += "; render the policy with this version of countersign, which reserves a scope for the canary"
	}
	p.problem(where, found(err), want)
}

// sentence is how each refusal of the gate begins, wherever it arrives; as NRI plugin
// it names a container and no image.
var sentence = regexp.MustCompile(`countersign: refused ([^\n]*?): ([A-Z][A-Z_]+):`)

// refusal reads the gate's refusal out of a runtime's error.
func refusal(err error) (image string, reason code.Code, ok bool) {
	if err == nil {
		return "", "", false
	}
	match := sentence.FindStringSubmatch(err.Error())
	if match == nil || !code.Known(code.Code(match[2])) {
		return "", "", false
	}
	return match[1], code.Code(match[2]), true
}

func found(err error) string {
	if err == nil {
		return letThrough
	}
	var early notTried
	if errors.As(err, &early) {
		return "could not be tried: " + err.Error()
	}
	return "refused with: " + err.Error()
}

func (p *proof) refused(one Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receipt.Refused = append(p.receipt.Refused, one)
}

func (p *proof) problem(where, found, expected string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receipt.Problems = append(p.receipt.Problems, Problem{where, clean.Line(found, maxShown), expected})
}

func (p *proof) note(text string) {
	p.receipt.Notes = append(p.receipt.Notes, clean.Line(text, maxShown))
}

// hook gives the program that the runtime executes as hook on this node.
func (p *proof) hook() string {
	if p.Gate.Crio != nil {
		return p.Gate.Crio.Hook
	}
	return p.Gate.Containerd.Hook
}

// each does something with everything at once, and gives all errors.
func each[T any](of []T, do func(T) error) error {
	errs := make([]error, len(of))
	var all sync.WaitGroup
	for i, one := range of {
		all.Go(func() { errs[i] = do(one) })
	}
	all.Wait()
	return errors.Join(errs...)
}
