package policy

// The scope that every rendered policy reserves for the canary of "countersign-gate
// prove", as countersign/policy/canary.py has it (docs/adr/0019): it asks for a signature
// by a root whose private key nobody has.
const (
	CanaryRegistry = "127.67.83.71:871"
	CanaryRoot     = "countersign-canary"
	CanaryKey      = "-----BEGIN PUBLIC KEY-----\n" +
		"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPjPW7Jtj7o4Jdfr871//TCnwB4T+\n" +
		"gI3frLaOTo7ETG/NJZzQPnPwPrBql5OdEyPzcIH4qCMWePK54jCMoCf+jA==\n" +
		"-----END PUBLIC KEY-----\n"
)
