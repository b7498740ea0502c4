package stage

// resetAfterEnd: see endedBefore.
const resetAfterEnd = true
