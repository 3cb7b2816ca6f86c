# Runs one completion and its tests; handed to python3 as text, with TOKEN \0 PROGRAM \0 TESTS on stdin.
# The last thing on stdout is the token and the verdict. Whatever the program could replace is fetched before.
import builtins, os, sys


def main(read, write, leave, run, translate, anything, text, kind):
    os.closerange(3, 4096)
    token, program, tests = read().split(b"\0")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    module = kind(sys)("solution")
    sys.modules["solution"] = module
    names = module.__dict__
    kept = dict(builtins.__dict__)
    try:
        tests = translate(tests, "<tests>", "exec")
        run(translate(program, "<completion>", "exec"), names)
        sys.settrace(None)
        sys.setprofile(None)
        builtins.__dict__.clear()
        builtins.__dict__.update(kept)
        names["__builtins__"] = builtins
        run(tests, names)
        verdict = b"passed"
    except anything as error:
        verdict = ("failed: " + kind(error).__name__ + ": " + text(error)).encode("utf-8", "replace")[:400]
    write(1, b"\n" + token + verdict)
    leave(0)


main(sys.stdin.buffer.read, os.write, os._exit, exec, compile, BaseException, str, type)
