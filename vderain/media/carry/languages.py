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
_UNKNOWN_TO_QUICKTIME = frozenset({"cze", "fre", "mao", "per", "rum", "slo"})
# ISO 639-2/B, which Matroska has -> 639-2/T, which MP4 has.
_BIBLIOGRAPHIC = {
    "alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
    "geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
    "rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}  # fmt: skip

# ISO 639-2/T -> the codes that FFmpeg turns into QuickTime's numbers of languages.
_QUICKTIME = {
    **{
        ours: theirs
        for theirs, ours in _BIBLIOGRAPHIC.items()
        if theirs not in _UNKNOWN_TO_QUICKTIME
    },
    **{"swe": "sve", "hrv": "hr ", "srp": "sr ", "gle": "iri"},
}


def three_letters(code: str) -> str:
    """The code of three letters for one of two; any other stays as it is."""
    return _TWO.get(code.lower(), code)


def same_language(code: str) -> str:
    """One code for all those of a language, to compare."""
    known = three_letters(code.strip())
    named = _BIBLIOGRAPHIC.get(known, known)
    return {"sve": "swe", "iri": "gle"}.get(named, named)


def quicktime(code: str) -> str:
    """The code with which FFmpeg writes a language into a MOV file; any unknown one as it is."""
    known = same_language(code)
    return _QUICKTIME.get(known, known)
