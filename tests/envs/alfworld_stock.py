"""Plays commands in games by ALFWorld's and textworld's own engine, and prints what they showed.

Run apart from the tests, because importing alfworld makes a folder and sets `$ALFWORLD_DATA`.
Reads `[[file, [command, …]], …]` and prints `[[[feedback, commands, won], …], …]`, both as JSON.
"""

import json
import sys


def transcript(file, commands):
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos

    infos = textworld.EnvInfos(admissible_commands=True, won=True)
    env = textworld.start(file, infos, wrappers=[AlfredDemangler(), AlfredInfos])
    states = [env.reset()]
    for command in commands:
        states.append(env.step(command)[0])
    env.close()
    return [[s.feedback, s.admissible_commands, s.won] for s in states]


if __name__ == "__main__":
    print(json.dumps([transcript(*each) for each in json.load(sys.stdin)]))
