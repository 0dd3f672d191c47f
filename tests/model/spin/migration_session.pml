/* A session pipelines batches 1..3 of its view 1; the server's dispatcher moves from view 0 to 1 in the middle.
   Run: ./run session [-DGOBACK]
   Without GOBACK ("a future view is refused", the first design): batch 1 is refused, the cut passes, batch 2 runs,
   batch 1 is resent and runs after it; with "highest serial" as dedupe state, batch 1 is then dropped as a replay.
   With GOBACK (a batch out of sequence is refused as well): no error. */
chan req = [3] of { byte }; chan rep = [6] of { byte, bit };
bit view; byte order; bool acc[4];
active proctype Server() { byte b;
end: do
  :: atomic { req?b ->
       if :: view == 0 -> rep!b,0
#ifdef GOBACK
          :: view == 1 && b != order + 1 -> rep!b,0
          :: view == 1 && b == order + 1 -> order = b; rep!b,1
#else
          :: view == 1 -> assert(b == order + 1); order = b; rep!b,1
#endif
       fi }
  :: view == 0 -> view = 1
  od }
active proctype Client() { byte next = 1, out, b; bit ok; bool back;
  do
  :: next <= 3 && !back -> req!next; next++; out++
  :: rep?b,ok -> out--;
     if :: ok -> acc[b] = true :: else -> back = true fi
  :: back && out == 0 -> atomic { back = false;                     /* go back to the first one not done */
       next = 1; do :: next <= 3 && acc[next] -> next++ :: else -> break od }
  :: next > 3 && out == 0 && !back -> break
  od;
  assert(acc[1] && acc[2] && acc[3]) }
