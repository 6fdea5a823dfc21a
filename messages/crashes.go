package messages

// SubjectRetry is asked by operators ([RetryRequest]).
const SubjectRetry = "jetway.ctl.retry"

// MaxLastWords is the most bytes of Crashes.LastWords.
const MaxLastWords = 1024

// Crashes are the lives of a key that failed, one after another: a backend that ended by itself within 10 s of its being ready, or
// before. One that was ready for a minute forgives them all.
type Crashes struct {
	InARow int `json:"in_a_row"`
	// LastWords are how the last of them ended, for people; at most MaxLastWords bytes.
	LastWords string `json:"last_words,omitempty"`
	// RetryAfterMS is for how long the key rests: a connect that would start another one is refused with BackingOff. Left out: it does not.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

// RetryRequest forgives a key its failures, so that it may be started at once. Its tag is not compared.
type RetryRequest struct {
	Key Key `json:"key"`
}

// RetryResponse says how many failures were forgiven; 0 is no error.
type RetryResponse struct {
	Forgiven int `json:"forgiven"`
}

func (r *RetryRequest) validate() *Error { return r.Key.validate() }
