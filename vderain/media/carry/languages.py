"""Codes of languages: containers use two or three letters, and for some languages two codes of three."""

from __future__ import annotations

# ISO 639-1 -> 639-2/T, of the languages that are met in practice.
_TWO = {
    pair[:2]: pair[2:]
    for pair in (
        "arara bgbul bnben bsbos cacat csces cycym dadan dedeu elell eneng esspa etest eueus fafas fifin frfra gagle"
        " glglg guguj heheb hihin hrhrv huhun hyhye idind isisl itita jajpn kakat kkkaz knkan kokor ltlit lvlav mkmkd"
        " mlmal mrmar msmsa mtmlt nbnob nlnld nnnno nonor papan plpol ptpor roron rurus skslk slslv sqsqi srsrp svswe"
        " swswa tatam tetel ththa tltgl trtur ukukr ururd vivie zhzho"
    ).split()
}
# ISO 639-2/B, which Matroska has -> 639-2/T, which MP4 has.
_BIBLIOGRAPHIC = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}  # fmt: skip


def three_letters(code: str) -> str:
    """The code of three letters for one of two; any other stays as it is."""
    return _TWO.get(code.lower(), code)


def same_language(code: str) -> str:
    """One code for all those of a language, to compare."""
    known = three_letters(code)
    return _BIBLIOGRAPHIC.get(known, known)
