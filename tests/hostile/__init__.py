"""What a hostile registry, index, reference or file may try, one module for each kind of attempt.

Each test here fails once the defence that it is about is taken away. `docs/security.rst` lists the
defences. Details of each of them are tested beside the module that has it.
"""
