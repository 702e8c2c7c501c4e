"""Whatever strangers send, the parsers of `lbspeaker.wire` raise `Malformed` and nothing else.

    python -m tests.fuzz [--inputs N] [--seed N] [--keep] [NAME…]     (all parsers, a million inputs each)

Inputs are real messages that were altered (`mutations`): bits, lengths, pieces of one in the other, JSON that
is nearly right. Where a checksum or a tag would end it all at the first line, half of them get a right one
again, so that what is behind is reached too (`parsers`). What is accepted must mean the same when it is built
and parsed again.

The same seed gives the same inputs. What failed once is kept in `corpus/<parser>/`, and tried by every test
run, with some thousand new inputs (`test_fuzz`).
"""
