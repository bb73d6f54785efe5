"""How `file.arrow` and `stream.arrow` were made: by pyarrow 26.0.1, which no environment of this repository has.

python tests/recorded/arrow/record.py
"""

from pathlib import Path

import pyarrow

table = pyarrow.table({"text_of_each_evaluation": list("abcdefg"), "label": list(range(7))})
folder = Path(__file__).parent
for name, new in (("file.arrow", pyarrow.ipc.new_file), ("stream.arrow", pyarrow.ipc.new_stream)):
    with new(folder / name, table.schema) as writer:
        writer.write_table(table[:3])
        writer.write_table(table[3:])
